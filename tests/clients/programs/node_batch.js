// Sends batches and tells what each operation got: node_batch.js URL TOKEN WHAT [COUNT]
// `reads` COUNT of objects and edges; `mixed`: reads, mistakes, and writes whose `name` becomes the operation's too.
// What a batch leaves unanswered is sent again.
"use strict";

const { APIRequest, FacebookAdsApi, FacebookAdsApiBatch } = require("facebook-nodejs-business-sdk");

const [url, token, what, count] = process.argv.slice(2);
Object.defineProperty(FacebookAdsApi, "GRAPH", { get: () => url });
const batch = new FacebookAdsApiBatch(FacebookAdsApi.init(token, "en_US", false));

const tell = (...values) => console.log(JSON.stringify(values));
const good = (response) => tell("success", response._httpStatus, response.body);
const bad = ({ _httpStatus: status, body: { error } }) => tell("failure", status, error.code, error.message);

const read = (node, fields) => batch.add("GET", [node], { fields }, undefined, good, bad);
const write = (path, params) => batch.add("POST", path, params, undefined, good, bad);

function reads() {
  for (let place = 0; place < Number(count); place += 1) {
    const node = place === 3 ? "404001" : String(1001 + place);
    if (place % 10 === 9) {
      const edge = new APIRequest(node, "GET", "/adsets");
      batch.addRequest(edge.addFields(["name", "viewer"]).addParam("limit", 2), good, bad);
    } else {
      read(node, "name,viewer,targeting");
    }
  }
}

function mixed() {
  read("1001", "name,viewer");
  write(["act_1", "campaigns"], { name: "My Søn & co", status: "PAUSED", special_ad_categories: [] });
  read("404001", "name");
  write(["act_1", "campaigns"], { name: "My Søn & co", status: "PAUSED" });
  write(["1002"], { name: "100 % {result=nothing}" });
  write(["404002"], { name: "My Søn & co" });
  read("1002", "name,viewer");
  batch.add("GET", ["act_1", "campaigns"], { fields: "name", limit: 2 }, undefined, good, bad);
  batch.add("DELETE", ["1003"], undefined, undefined, good, bad);
  read("1003", "name");
}

async function main() {
  ({ reads, mixed })[what]();
  let left = batch;
  while (left) {
    tell("sent", left._batch.length);
    left = await left.execute();
  }
}

main().catch((error) => tell("refused", error.status, error.response.code, error.message));
