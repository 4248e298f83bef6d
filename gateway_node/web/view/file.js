/** The file of a message: an image as a picture, anything else as a card. */
import { button } from './button.js';
import { openDialog } from './dialog.js';
import { h, name } from './dom.js';
import { icon } from './icons.js';
import { attempt, toast } from './toast.js';

const WIDTH = 320; // px
const HEIGHT = 280; // px

export function fileView(chat, message) {
  const { file } = message;
  return message.type === 'image' && file.thumbnail ? picture(chat, file) : card(chat, file);
}

/** "3.4 MB" */
export function sizeOf(bytes) {
  const units = ['B', 'KB', 'MB', 'GB'];
  let unit = 0;
  let size = bytes;
  for (; size >= 1000 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${size >= 10 || unit === 0 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** Save a file: through an address that needs no header, because a download cannot have one. */
export async function download(chat, file) {
  const link = await attempt(() => chat.connection.rpc('file.link', { file_id: file.id }));
  if (!link) return;
  const anchor = h('a', { href: link.url, download: file.name, rel: 'noopener' });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
}

function card(chat, file) {
  return h(
    'button',
    { type: 'button', class: 'file', 'aria-label': `Download ${file.name}`, on: { click: () => download(chat, file) } },
    h('span', { class: 'file-icon' }, icon('file')),
    h('span', { class: 'file-text' }, name(file.name), h('span', { class: 'quiet', text: sizeOf(file.size) })),
    icon('download'),
  );
}

function picture(chat, file) {
  const { width, height } = fitted(file);
  const image = h('img', { alt: file.name, width, height, class: 'picture-image', decoding: 'async' });
  const frame = h(
    'button',
    { type: 'button', class: 'picture loading', 'aria-label': `Open ${file.name}`, on: { click: () => enlarge(chat, file) } },
    image,
  );
  chat.pictures.thumbnail(file.id).then(
    (address) => {
      image.src = address;
      frame.classList.remove('loading');
    },
    () => frame.replaceWith(card(chat, file)),
  );
  return frame;
}

/** The size is known before the image is there, so nothing moves when it comes. */
function fitted({ width = WIDTH, height = HEIGHT }) {
  const scale = Math.min(1, WIDTH / width, HEIGHT / height);
  return { width: Math.max(24, Math.round(width * scale)), height: Math.max(24, Math.round(height * scale)) };
}

async function enlarge(chat, file) {
  const image = h('img', { alt: file.name, class: 'enlarged' });
  const dialog = openDialog(
    file.name,
    [image, h('div', { class: 'dialog-buttons' }, button(`Download (${sizeOf(file.size)})`, () => download(chat, file)))],
    'wide',
  );
  try {
    const address = await chat.pictures.whole(file.id);
    dialog.addEventListener('close', () => URL.revokeObjectURL(address));
    image.src = address;
  } catch {
    toast('The image could not be loaded.');
  }
}
