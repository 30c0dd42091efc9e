// Requests to the service, and what went wrong with them in words.

export class ApiError extends Error {
  constructor(status, message, retryS = 0) {
    super(message);
    this.status = status;
    this.retryS = retryS;
  }
}

/** Returns the answer's JSON. Throws ApiError where the service refuses, TypeError where it is not there. */
export async function ask(path, options = {}) {
  return (await request(path, options)).json();
}

export const judgeFile = (file, name, signal) =>
  ask("/predict/single", { method: "POST", body: form("file", [{ file, name }]), signal });

export const judgeUrls = (urls, signal) =>
  ask("/predict/urls", {
    method: "POST", body: JSON.stringify({ urls }), headers: { "Content-Type": "application/json" }, signal,
  });

/** Yields what the service says of each file, as soon as it says it. */
export async function* judgeMany(tasks, signal) {
  const answer = await request("/predict/streaming", { method: "POST", body: form("files", tasks), signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}

async function request(path, options) {
  const answer = await fetch(path, { ...options, credentials: "same-origin", cache: "no-store" });
  if (answer.ok) return answer;
  throw new ApiError(answer.status, await detailOf(answer), Number(answer.headers.get("Retry-After")) || 0);
}

function form(field, tasks) {
  const body = new FormData();
  for (const { file, name } of tasks) body.append(field, file, name);
  return body;
}

/** Returns the sentence in an error's answer. */
async function detailOf(answer) {
  const said = await answer.json().catch(() => ({}));
  if (typeof said.detail === "string") return said.detail;
  if (Array.isArray(said.detail)) return said.detail.map((one) => one.msg).join(", ");
  return `The service answered ${answer.status} ${answer.statusText}`.trim();
}
