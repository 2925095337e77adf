// What people read: names whatever bytes they hold, numbers, durations.
//
// A name is bytes. The API sends it as text, and beside that in base64 where the
// text is not all; here it becomes a Name, which is made once and never parsed
// again. Whatever could be taken for something else on a screen, or turns what
// stands around it about, is shown as an escape.

const encoder = new TextEncoder();

// A Name has the bytes, an id that is the same for the same bytes and for no
// others (and stands in URLs), and parts to show: text, or escapes of it.
export class Name {
  constructor(bytes) {
    this.bytes = bytes;
    this.id = percent(bytes);
  }

  get parts() {
    return this.cut ??= cutUp(this.bytes);
  }

  // The name as one line of text, escapes included.
  toString() {
    return this.parts.map((part) => part.text).join("");
  }
}

// The name in a field of an object of the API: key, and key_b64 where its bytes are
// not what key says.
export function nameIn(object, key = "name") {
  const b64 = object[key + "_b64"];
  return new Name(typeof b64 === "string" ? fromBase64(b64) : encoder.encode(object[key] ?? ""));
}

export const nameOf = (text) => new Name(encoder.encode(text));

// The name that percent-encoded bytes stand for.
export function nameFrom(id) {
  const bytes = [];
  for (let i = 0; i < id.length; i++) {
    const hex = /^%([0-9A-Fa-f]{2})/.exec(id.slice(i, i + 3));
    if (hex) {
      bytes.push(parseInt(hex[1], 16));
      i += 2;
    } else {
      const point = String.fromCodePoint(id.codePointAt(i));
      bytes.push(...encoder.encode(point));
      i += point.length - 1;
    }
  }
  return new Name(Uint8Array.from(bytes));
}

function percent(bytes) {
  let id = "";
  for (const b of bytes) {
    id += /[A-Za-z0-9_~.-]/.test(String.fromCharCode(b)) ? String.fromCharCode(b) : "%" + hex(b, 2);
  }
  return id;
}

function fromBase64(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

const hex = (n, digits) => n.toString(16).toUpperCase().padStart(digits, "0");

// What is shown as an escape: control and format characters, of which those that
// turn text about are some, whatever is not assigned, and blanks that are no space.
const hidden = /[\p{C}\p{Zl}\p{Zp}\u034F\u115F\u1160\u17B4\u17B5\u2800\u3164\uFFA0\uFE00-\uFE0F\u{E0100}-\u{E01EF}]|(?! )\p{Zs}/u;
const mark = /\p{M}/u;
const marksInRow = 3; // more of them are no letter of any language, and cover lines above and below

// cutUp returns a name as units, each a character or an escape.
function cutUp(bytes) {
  const parts = [];
  let marks = marksInRow; // at first, a mark has nothing to stand on
  for (let i = 0; i < bytes.length;) {
    const [point, length] = decode(bytes, i);
    i += length;
    if (point < 0) {
      parts.push({ text: "\\x" + hex(-point, 2), escaped: true });
      marks = marksInRow;
      continue;
    }
    const char = String.fromCodePoint(point);
    const isMark = mark.test(char);
    if (hidden.test(char) || (isMark && marks >= marksInRow)) {
      parts.push({ text: point < 0x80 ? "\\x" + hex(point, 2) : point > 0xffff ? `\\u{${hex(point, 0)}}` : "\\u" + hex(point, 4), escaped: true });
      marks = marksInRow;
    } else {
      marks = isMark ? marks + 1 : 0;
      parts.push({ text: char, escaped: false });
    }
  }
  return parts;
}

// decode returns the character of UTF-8 at i and its length, or minus the byte.
function decode(bytes, i) {
  const b = bytes[i];
  if (b < 0x80) return [b, 1];
  const [length, least] = b >= 0xc2 && b < 0xe0 ? [2, 0x80] : b >= 0xe0 && b < 0xf0 ? [3, 0x800] : b >= 0xf0 && b < 0xf5 ? [4, 0x10000] : [0, 0];
  if (length === 0 || i + length > bytes.length) return [-b, 1];
  let point = b & (0x7f >> length);
  for (let k = 1; k < length; k++) {
    if ((bytes[i + k] & 0xc0) !== 0x80) return [-b, 1];
    point = (point << 6) | (bytes[i + k] & 0x3f);
  }
  if (point < least || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return [-b, 1];
  return [point, length];
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// A whole number with separators.
export const count = (n) => n === null || n === undefined ? "–" : grouped.format(n);

// How many of something there are, in words.
export const many = (n, one, more = one + "s") => `${count(n)} ${n === 1 ? one : more}`;

// A number with three digits or so: 0.42, 12.3, 1,234, 1.23 M.
export function number(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  const size = Math.abs(n);
  if (size >= 1e9) return (n / 1e9).toFixed(2) + " G";
  if (size >= 1e6) return (n / 1e6).toFixed(2) + " M";
  if (size >= 100 || Number.isInteger(n)) return grouped.format(Math.round(n));
  return n.toFixed(size >= 10 ? 1 : 2);
}

// A whole number, rounded where it is large: 1,424, 16.8 M.
export const short = (n) => n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : count(n);

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(n) < 1024) return `${unit === "B" || n >= 100 ? Math.round(n) : n.toFixed(1)} ${unit}`;
    n /= 1024;
  }
  return n.toFixed(1) + " TiB";
}

// How long something takes or has taken, in its two largest units.
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10_000) return (Math.floor(ms / 100) / 10).toFixed(1) + " s";
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor(s / 3600) % 24} h`;
}

// The same in one unit, where there is little room.
export function briefly(ms) {
  if (ms === null || ms === undefined || ms < 60_000) return duration(ms);
  const [n, unit] = ms < 3_600_000 ? [ms / 60_000, "min"] : ms < 86_400_000 ? [ms / 3_600_000, "h"] : [ms / 86_400_000, "d"];
  return `${n < 10 ? n.toFixed(1) : Math.floor(n)} ${unit}`;
}

// A time of day, with the day where it isn't today.
export function clock(at) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "–";
  const two = (n) => String(n).padStart(2, "0");
  const day = time.toDateString() === new Date().toDateString() ? "" :
    `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} `;
  return `${day}${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}
