// Announces events: the part that causes an event does not know who listens. A part that is built later joins by
// itself, so nothing refers to a part that does not exist yet. Pure.

export interface Announcement<Event, Answer = void> {
  /** The listener is called with every later event, after the listeners that joined before it. */
  listen(listener: (event: Event) => Answer): void;
}

export interface Announcer<Event, Answer = void> extends Announcement<Event, Answer> {
  /** Calls every listener in order and returns their answers. @throws the first error of a listener, once all were called */
  announce(event: Event): Answer[];
}

export function createAnnouncer<Event, Answer = void>(): Announcer<Event, Answer> {
  const listeners: ((event: Event) => Answer)[] = [];
  return {
    listen: (listener) => {
      listeners.push(listener);
    },
    announce: (event) => {
      const answers: Answer[] = [];
      const errors: unknown[] = [];
      for (const listener of listeners) {
        try {
          answers.push(listener(event));
        } catch (error) {
          errors.push(error);
        }
      }
      if (errors.length > 0) throw errors[0];
      return answers;
    },
  };
}
