/** Images of messages: fetched with the login's token, shown from memory, the least used of them let go. */

const MOST = 200; // thumbnails of some 10 KB

export class Pictures {
  #api;
  #urls = new Map(); // file id -> promise of an address, the least used first

  constructor(api) {
    this.#api = api;
  }

  /** An address of the thumbnail, for this page only. */
  thumbnail(fileId) {
    let url = this.#urls.get(fileId);
    this.#urls.delete(fileId);
    if (!url) {
      url = this.#api.blob(fileId, true).then((blob) => URL.createObjectURL(blob));
      url.catch(() => this.#urls.delete(fileId)); // the next one who asks tries again
    }
    this.#urls.set(fileId, url);
    if (this.#urls.size > MOST) this.#drop(this.#urls.keys().next().value);
    return url;
  }

  /** The whole image. Whoever asked revokes the address. */
  async whole(fileId) {
    return URL.createObjectURL(await this.#api.blob(fileId));
  }

  #drop(fileId) {
    const url = this.#urls.get(fileId);
    this.#urls.delete(fileId);
    url.then((address) => URL.revokeObjectURL(address)).catch(() => {});
  }
}
