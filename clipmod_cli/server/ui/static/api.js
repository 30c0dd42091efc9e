// Requests to the service, and what went wrong with them in words.

export class ApiError extends Error {
  constructor(status, message, { retryS = 0, code = "" } = {}) {
    super(message);
    Object.assign(this, { status, retryS, code });
  }
}

export const UNREACHABLE = "The service cannot be reached.";

/** Returns the answer's JSON. Throws ApiError where the service refuses, TypeError where it is not there. */
export async function ask(path, options = {}) {
  return (await request(path, options)).json();
}

/** Opens a session with a key. Returns whether the key is valid. */
export async function logIn(key) {
  const body = new URLSearchParams({ key });
  const answer = await fetch("/ui/login", { method: "POST", body, credentials: "same-origin", cache: "no-store" });
  if (answer.ok || answer.status === 401) return answer.ok;
  throw new ApiError(answer.status, (await problemOf(answer)).message);
}

/** `policy` is one that the operator allows; empty for the service's own. */
export const judgeFile = ({ file, name, policy }, signal) =>
  ask(judging("single", policy), { method: "POST", body: form("file", [{ file, name }]), signal });

export const judgeUrls = (urls, policy, signal) =>
  ask(judging("urls", policy), {
    method: "POST", body: JSON.stringify({ urls }), headers: { "Content-Type": "application/json" }, signal,
  });

/** Yields what the service says of each file, as soon as it says it. */
export async function* judgeMany(tasks, signal) {
  const answer = await request(judging("streaming", tasks[0].policy), { method: "POST", body: form("files", tasks), signal });
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

const judging = (kind, policy) => `/predict/${kind}${policy ? `?policy=${encodeURIComponent(policy)}` : ""}`;

async function request(path, options) {
  const answer = await fetch(path, { ...options, credentials: "same-origin", cache: "no-store" });
  if (answer.ok) return answer;
  const { message, code } = await problemOf(answer);
  throw new ApiError(answer.status, message, { code, retryS: Number(answer.headers.get("Retry-After")) || 0 });
}

function form(field, tasks) {
  const body = new FormData();
  for (const { file, name } of tasks) body.append(field, file, name);
  return body;
}

/** Returns the sentence in an error's answer, and its code where it has one. */
async function problemOf(answer) {
  const { detail, code = "" } = await answer.json().catch(() => ({}));
  if (typeof detail === "string") return { message: detail, code };
  if (Array.isArray(detail)) return { message: detail.map((one) => one.msg).join(", "), code };
  return { message: `The service answered ${answer.status} ${answer.statusText}`.trim(), code };
}
