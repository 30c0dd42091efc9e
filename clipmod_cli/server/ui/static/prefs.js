// Settings of this device. Where storage is forbidden they last as long as the page.

const kept = new Map();

export function recall(name, otherwise) {
  try {
    return localStorage.getItem(`clipmod.${name}`) ?? otherwise;
  } catch {
    return kept.get(name) ?? otherwise;
  }
}

export function remember(name, value) {
  kept.set(name, value);
  try {
    localStorage.setItem(`clipmod.${name}`, value);
  } catch {
    // kept for the page alone
  }
}
