// One way to tell others of what happened: whoever causes an event announces it, and does not know who listens. A part that
// is built later joins by itself, so that nothing has to name what does not exist yet. Pure.

export interface Announcement<Event, Answer = void> {
  /** From now on the listener is handed each event, after those that joined before it. */
  listen(listener: (event: Event) => Answer): void;
}

export interface Announcer<Event, Answer = void> extends Announcement<Event, Answer> {
  /** Calls every listener in order; the first one that throws ends it. Answers what they answered. */
  announce(event: Event): Answer[];
}

export function createAnnouncer<Event, Answer = void>(): Announcer<Event, Answer> {
  const listeners: ((event: Event) => Answer)[] = [];
  return {
    listen: (listener) => {
      listeners.push(listener);
    },
    announce: (event) => listeners.map((listener) => listener(event)),
  };
}
