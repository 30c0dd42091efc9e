// Numbers as people read them.

/** Returns a share as per cent; what is not quite nothing never reads as nothing. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  const hundred = share * 100;
  return `${hundred.toFixed(hundred % 1 && hundred < 99.95 ? 1 : 0)} %`;
}

/** Returns milliseconds in the unit that suits them. */
export function duration(ms) {
  if (ms >= 60_000) return `${(ms / 60_000).toFixed(1)} min`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms >= 10_000 ? 0 : 1)} s`;
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

export function size(bytes) {
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return bytes >= 1e3 ? `${(bytes / 1e3).toFixed(0)} kB` : `${bytes} bytes`;
}

export const count = (number) => Number(number).toLocaleString("en").replaceAll(",", "\u202f");

export const many = (number, one, several) => `${count(number)} ${number === 1 ? one : several}`;
