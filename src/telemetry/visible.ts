// Pure. Text of others in a line of ours: what would end the line, steer a terminal or turn the reading order is shown.

// C0 and C1 controls with ESC, CR and LF among them, DEL, marks that turn the direction of text, U+2028 and U+2029,
// which some readers take for the end of a line, and the byte order mark.
const unseen = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

/** The text with each such character as \uXXXX, which in JSON means the same. */
export const visible = (text: string): string =>
  text.replace(unseen, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
