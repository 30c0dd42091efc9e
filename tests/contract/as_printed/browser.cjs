// What a printed JavaScript snippet finds in a page: inputs with files, and a console. Loaded by `node --require`.
// Every host is the port of loopback that PRINTED_PORT names. What is logged is one JSON array a line.
"use strict";

const fs = require("node:fs");

const files = JSON.parse(process.env.PRINTED_FILES).map((name) => new File([fs.readFileSync(name)], name));

globalThis.fileInput = { files };
globalThis.document = {
  getElementById(id) {
    const number = /\d+$/.exec(id); // "file2" is the input of the second file alone
    return { files: number ? [files[Number(number[0]) - 1]] : files };
  },
};

const fetchFromNetwork = globalThis.fetch;
globalThis.fetch = (address, options) => {
  const url = new URL(address);
  url.host = `127.0.0.1:${process.env.PRINTED_PORT}`;
  return fetchFromNetwork(url, options);
};

console.log = (...said) => process.stdout.write(`${JSON.stringify(said)}\n`);
