// Codes of the service in words: what happened, and what a person can do.

const REASONS = {
  truncated: ["The file ends early", "Get the whole file and judge it again, or look at what there is."],
  coverage: ["Not all of the picture was shown to the models", "Look at its edges, or judge parts of it."],
  unsampled: ["Frames or pages were left out", "Look through all of them."],
  other_content: ["The file holds more than was looked at", "Open it in a viewer that shows all of it, or refuse it."],
  colour: ["Its colours could not be read", "Look at it, or save it in another format and judge it again."],
  unmapped_labels: ["A model saw what the policy does not know", "Look at it. The policy should name that label."],
  unseen_category: ["A model cannot see all that the policy forbids", "Look at it. Other models would see more."],
  low_agreement: ["The models disagree", "Look at it: the details tell what each model says."],
  review_margin: ["The score is near the threshold", "Look at it and decide."],
  short_hit: ["Only a short part of it is over the threshold", "Look at that part."],
  fallback_model: ["A model failed and another one judged", "Look at it, or judge it again when the models are back."],
  early_exit: ["Not all models were asked", "Look at it, or judge it again without early exit."],
};

const AGAIN = "Try again.";
const LATER = "Try again later.";
const FAULTS = {
  not_found: ["There is no such file", "Choose it again."],
  permission_denied: ["The file may not be read", "Choose it again."],
  read_error: ["Reading it failed", AGAIN],
  not_a_regular_file: ["It is no file", "Choose a file."],
  empty_file: ["The file is empty", "Copy it again from where it came from."],
  file_too_large: ["The file is too large", "Shrink it."],
  unsupported_format: ["It is in no format that is read here", "Save it as JPEG, PNG or WebP."],
  decode_error: ["The file is damaged", "Get it again from where it came from."],
  too_many_pixels: ["It has too many pixels", "Shrink it."],
  decode_timeout: ["Decoding took too long", "Try again, or save it in another format."],
  decode_crash: ["Its decoder crashed", "Save it in another format. Do not trust the file."],
  archive_error: ["The archive is damaged", "Unpack it and choose the pictures."],
  archive_limit: ["The archive is too large", "Unpack it and choose the pictures."],
  video_error: ["The video cannot be read", "Save it in another format."],
  encrypted: ["It is encrypted", "Decrypt it first."],
  invalid_url: ["This is no http or https address", "Correct the address."],
  blocked_address: ["The service may not go to this address", "Download the picture and choose the file."],
  dns_error: ["There is no host of this name", "Check the address."],
  connect_error: ["The host does not answer", LATER],
  tls_error: ["The host's certificate is not valid", "Download the picture and choose the file."],
  http_error: ["The host does not give the picture", "Check the address in a browser, or choose the file."],
  timeout: ["The download took too long", LATER],
  download_too_large: ["The download is too large", "Shrink the picture."],
  not_an_image: ["There is no picture at this address", "Give the address of the picture itself."],
  too_many_redirects: ["The address leads on and on", "Give the address of the picture itself."],
  model_error: ["The models failed on this picture", "Look at it yourself, and tell the operator."],
  non_finite_score: ["The models gave no usable score", "Look at it yourself, and tell the operator."],
  out_of_memory: ["The service has too little memory", LATER],
  deadline: ["The time was up before a model saw it", "Try again when the service is less busy."],
  worker_lost: ["The process that judged it ended", "Try again."],
  internal_error: ["The service made a mistake", "Try again, and tell the operator."],
};

const PASSING = new Set([
  "read_error", "decode_timeout", "dns_error", "connect_error", "timeout", "http_error", "out_of_memory", "deadline",
  "internal_error", "worker_lost",
]);

/** Returns a reason for review as [what, what to do]. */
export const reason = (code) => REASONS[code] ?? [code, "Look at it and decide."];

/** Returns an error of a picture as [what, what to do]; the latter is empty where nothing is known. */
export function fault({ message, code = "" }) {
  if (FAULTS[code]) return FAULTS[code];
  const unseen = /not all of it was looked at \(([a-z_, ]+)\)/.exec(message);
  if (!unseen) return [message, ""];
  const reasons = unseen[1].split(", ").map(reason);
  const what = reasons.map(([one]) => one.toLowerCase()).join("; ");
  return [`Not called Safe: ${what}`, reasons.map(([, todo]) => todo).join(" ")];
}

/** Returns whether the same picture may be judged when it is sent again. */
export const mayPass = ({ code, status = 0 }) => PASSING.has(code) || status >= 500 || status === 408;
