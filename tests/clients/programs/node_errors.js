// Reads what cannot be read and tells what was thrown: node_errors.js URL TOKEN ID[?FIELD]...
// An id that starts with `+` is written to instead.
"use strict";

const { Campaign, FacebookAdsApi } = require("facebook-nodejs-business-sdk");

const [url, token, ...asked] = process.argv.slice(2);
Object.defineProperty(FacebookAdsApi, "GRAPH", { get: () => url });
FacebookAdsApi.init(token, "en_US", false);

async function main() {
  for (const each of asked) {
    const [node, field] = each.split("?");
    const campaign = new Campaign(node.replace("+", ""));
    try {
      const got = await (node.startsWith("+") ? campaign.update([], { name: "x" }) : campaign.get([field || "name"]));
      console.log(JSON.stringify({ got: got.exportAllData ? got.exportAllData() : got }));
    } catch (error) {
      const { code, error_subcode: subcode, is_transient: transient } = error.response || {};
      const { name, status, message } = error;
      console.log(JSON.stringify({ raised: name, status, message, code, subcode, transient }));
    }
  }
}

main();
