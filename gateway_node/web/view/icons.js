/** Icons, drawn here so that the page needs nothing from elsewhere: paths on a grid of 24. */

const PATHS = {
  archive: ['M4 7h16v12a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1zM3 4h18v3H3zM10 11h4'],
  back: ['M15 5l-7 7 7 7'],
  clock: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 8v4l3 2'],
  close: ['M6 6l12 12M18 6L6 18'],
  copy: ['M9 9h11v11H9zM5 15H4V4h11v1'],
  delete: ['M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5'],
  down: ['M12 5v14M6 13l6 6 6-6'],
  download: ['M12 4v11M7 11l5 5 5-5M5 20h14'],
  edit: ['M4 20l1-4L16 5l3 3L8 19zM14 7l3 3'],
  emoji: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM8.5 14.5a4.5 4.5 0 0 0 7 0M9 9.5v.5M15 9.5v.5'],
  file: ['M6 3h8l5 5v13H6zM14 3v5h5'],
  group: ['M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14a6.5 6.5 0 0 1 3.5 6'],
  more: ['M4.5 12h1M11.5 12h1M18.5 12h1'],
  mute: ['M4 9v6h4l5 4V5L8 9zM17 9l4 6M21 9l-4 6'],
  pin: ['M9 3h6l-1 6 4 4v2H6v-2l4-4zM12 15v6'],
  plus: ['M12 5v14M5 12h14'],
  reply: ['M10 6L4 12l6 6M4 12h9a7 7 0 0 1 7 7'],
  retry: ['M4 12a8 8 0 1 1 2.5 5.8M4 19v-5h5'],
  search: ['M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5'],
  send: ['M4 12l16-8-6 16-3-7z'],
  signout: ['M14 4H5v16h9M10 12h11M17 8l4 4-4 4'],
  attach: ['M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.5 3.5 0 0 1 5 5l-8.5 8.5a2 2 0 0 1-3-3L14 7'],
  tick: ['M5 13l4 4L19 7'],
  ticks: ['M2 13l4 4L16 7M10.5 15.5L12 17 22 7'],
  user: ['M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 21a7.5 7.5 0 0 1 15 0'],
  warning: ['M12 4l9 16H3zM12 10v4M12 17v.01'],
};

const SVG = 'http://www.w3.org/2000/svg';

export function icon(which) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  for (const d of PATHS[which]) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}
