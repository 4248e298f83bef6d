/** What is asked over HTTP, with the login's token: files, and what is in courses. Everything else goes through the connection. */
import { Problem, Unreachable, answer } from './session.js';

export class Api {
  #session;

  constructor(session) {
    this.#session = session;
  }

  /** An image, or its thumbnail, as a blob. `inline`: from here, not by way of an object store elsewhere. */
  async blob(fileId, thumbnail = false) {
    const path = `/v1/files/${encodeURIComponent(fileId)}${thumbnail ? '/thumbnail' : '?inline=true'}`;
    return this.#authorised(async (token) => {
      const response = await answer(path, { headers: { Authorization: `Bearer ${token}` } });
      return response.blob();
    });
  }

  /** What is at a path, decoded. Throws `Problem`, `Unreachable`. */
  async json(path) {
    return this.#authorised(async (token) => (await answer(path, { headers: { Authorization: `Bearer ${token}` } })).json());
  }

  /** Upload into a room. `progress(fraction)` is called on the way; `signal` ends it. Gives what a message says of it. */
  async upload(roomId, file, progress, signal) {
    const path = `/v1/rooms/${roomId}/files?name=${encodeURIComponent(file.name || 'file')}`;
    return this.#authorised((token) => send(path, token, file, progress, signal));
  }

  async #authorised(request) {
    const token = await this.#session.token();
    try {
      return await request(token);
    } catch (error) {
      if (error.status !== 401) throw error;
      return request(await this.#session.token(token));
    }
  }
}

/** XMLHttpRequest, because fetch does not say how far an upload is. */
function send(path, token, file, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', path);
    request.setRequestHeader('Authorization', `Bearer ${token}`);
    request.setRequestHeader('Content-Type', file.type || 'application/octet-stream');
    request.responseType = 'json';
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Unreachable());
    request.onabort = () => reject(new DOMException('The upload was cancelled.', 'AbortError'));
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(request.response);
      else reject(new Problem(request.status, request.response ?? {}));
    };
    signal.addEventListener('abort', () => request.abort());
    request.send(file);
  });
}
