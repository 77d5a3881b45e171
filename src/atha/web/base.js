"use strict";
// Text as it is shown on a page: letters that nobody sees, but that are obeyed, become escapes such as \x1b.
const visible = (text) => String(text).replace(@UNSEEN@, (letter) => {
  const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[letter];
  if (short) return short;
  const code = letter.codePointAt(0), [kind, length] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return `\\${kind}${code.toString(16).padStart(length, "0")}`;
});
