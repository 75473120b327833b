// Pure. Makes foreign text safe in our lines: characters that end a line, steer a terminal or turn the reading
// direction become visible.

// C0 and C1 controls including ESC, CR and LF, DEL, marks that turn the direction of text, U+2028 and U+2029 (some
// readers take them for the end of a line), and the byte order mark.
const unseen = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

/** The text with each such character as \uXXXX, which means the same in JSON. */
export const visible = (text: string): string =>
  text.replace(unseen, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
