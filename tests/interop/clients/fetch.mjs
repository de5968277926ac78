// fetch of Node.js with the v1 interface: node fetch.mjs URL-OF-A-MODEL WANTED.json PICTURE.png

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const [url, wantedFile, pictureFile] = process.argv.slice(2);
const wanted = JSON.parse(readFileSync(wantedFile, "utf8"));

async function post(operation, body, headers) {
  return fetch(`${url}/${operation}`, { method: "POST", body, headers });
}

const body = JSON.stringify({ inputs: wanted.rows });
const json = { "Content-Type": "application/json" };
const single = (rows) => rows.map((row) => row.map(Math.fround));

let answer = await post("encode", body, json);
assert.equal(answer.status, 200);
assert.deepEqual(single((await answer.json()).codes), wanted.code);

answer = await post("encode", gzipSync(body), { ...json, "Content-Encoding": "gzip" });
assert.deepEqual(single((await answer.json()).codes), wanted.code);

const raw = "application/octet-stream";
const rows = Float32Array.from(wanted.rows.flat(3));
answer = await post("encode", rows, { "Content-Type": raw, Accept: raw });
assert.equal(answer.headers.get("x-shape"), `${wanted.rows.length},32`);
assert.deepEqual([...new Float32Array(await answer.arrayBuffer())], wanted.code.flat());

answer = await post("encode", readFileSync(pictureFile), { "Content-Type": "image/png" });
const { codes } = await answer.json();
assert.equal(codes[0].length, 32);

// as a browser sends a file that was chosen in a form
const form = new FormData();
form.append("file", new Blob([readFileSync(pictureFile)], { type: "image/png" }), "seven.png");
answer = await post("encode", form, {});
assert.deepEqual((await answer.json()).codes, codes);

const many = JSON.stringify({ inputs: Array(8).fill(wanted.rows).flat() });
answer = await post("reconstruct", many, { ...json, "Accept-Encoding": "gzip" });
assert.equal(answer.headers.get("content-encoding"), "gzip");
assert.equal((await answer.json()).reconstructions.length, 8 * wanted.rows.length);

answer = await post("encode", "{", json);
assert.equal(answer.status, 400);
assert.equal((await answer.json()).status, 400);
