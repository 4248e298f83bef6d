/** Which class a course's room leads to: the one that goes on, or the next that is planned. */

export class Classes {
  #api;
  #courses = new Map(); // room id -> course id

  constructor(api) {
    this.#api = api;
  }

  /** As `GET /v1/courses/{id}/classes` has it, or `null`. Throws `Problem`, `Unreachable`. */
  async next(roomId) {
    const course = this.#courses.get(roomId) ?? (await this.#find(roomId));
    if (!course) return null;
    const { classes } = await this.#api.json(`/v1/courses/${course}/classes`);
    const left = classes.filter((each) => !each.ended_at && !each.cancelled_at);
    return left.find((each) => each.started_at) ?? left.findLast((each) => new Date(each.ends_at) > new Date()) ?? null;
  }

  async #find(roomId) {
    let after = '';
    do {
      const page = await this.#api.json(`/v1/me/courses${after && `?after=${encodeURIComponent(after)}`}`);
      for (const { id, room_id } of page.courses) if (room_id) this.#courses.set(room_id, id);
      after = page.next ?? '';
    } while (after && !this.#courses.has(roomId));
    return this.#courses.get(roomId) ?? null;
  }
}
