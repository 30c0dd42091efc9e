// From what people choose, drop and paste to a flat list of {file, name}. Sends nothing.

const CLUTTER = /(^|\/)(\.[^/]*|Thumbs\.db|desktop\.ini)$/i;

/** Returns the files of an input; those of a folder with their path in it. */
export const filesOf = (input) =>
  [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));

/** Returns what was dropped, folders to their depths. Has to be called while the event is handled. */
export async function droppedIn(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  const lost = [];
  for (const entry of entries) if (entry) await walk(entry, found, lost);
  return { found, lost };
}

/** Returns pictures on the clipboard, under names that tell them apart. */
export function pastedIn(transfer) {
  const files = [...transfer.files];
  const stamp = new Date().toISOString().slice(11, 19).replaceAll(":", "-");
  return files.map((file, i) => ({ file, name: file.name === "image.png" ? `pasted ${stamp} ${i + 1}.png` : file.name }));
}

/** Returns the addresses in a text, each once. */
export const urlsIn = (text) => [...new Set(text.split(/\s+/).filter(Boolean))];

export function isUrl(text) {
  return URL.canParse(text) && ["http:", "https:"].includes(new URL(text).protocol);
}

/** Splits files of folders into what may be a picture and what is not; single files are all wanted. */
export function sift(found, formats) {
  const wanted = found.filter(({ file, name }) => !name.includes("/") || mayBePicture(file, name, formats));
  return { wanted, left: found.length - wanted.length };
}

function mayBePicture(file, name, formats) {
  if (CLUTTER.test(name)) return false;
  const ending = name.slice(name.lastIndexOf(".") + 1).toLowerCase();
  return !file.type || file.type.startsWith("image/") || formats.includes(ending);
}

async function walk(entry, found, lost) {
  const name = (entry.fullPath ?? entry.name).replace(/^\//, "");
  try {
    if (entry instanceof File) found.push({ file: entry, name });
    else if (entry.isFile) found.push({ file: await asked(entry, "file"), name });
    else for (const child of await childrenOf(entry)) await walk(child, found, lost);
  } catch {
    lost.push(name);
  }
}

/** Returns what is in a folder; browsers give it in pieces until an empty one. */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    const some = await asked(reader, "readEntries");
    if (!some.length) return all;
    for (const one of some) all.push(one);
  }
}

const asked = (object, method) => new Promise((done, failed) => object[method](done, failed));
