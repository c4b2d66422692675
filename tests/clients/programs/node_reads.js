// Reads as an ad tool does: an account, its campaigns page by page along Graph's own links, a report: node_reads.js URL TOKEN
"use strict";

const { AdAccount, Campaign, FacebookAdsApi, User } = require("facebook-nodejs-business-sdk");

const [url, token] = process.argv.slice(2);
Object.defineProperty(FacebookAdsApi, "GRAPH", { get: () => url });
FacebookAdsApi.init(token, "en_US", false);

const tell = (...values) => console.log(JSON.stringify(values));

async function tellPages(asked) {
  let page = await asked;
  for (;;) {
    tell(page.map((each) => each.exportAllData()), page.paging);
    if (!page.hasNext()) return;
    page = await page.next();
  }
}

async function main() {
  const account = new AdAccount("act_1");
  tell((await new User("me").get(["name"])).exportAllData());
  tell((await account.get(["name", "currency", "viewer"])).exportAllData());
  await tellPages(account.getCampaigns(["name", "objective", "viewer"], { limit: 4 }));
  await tellPages(new Campaign("1001").getAdSets(["name"], { limit: 5, effective_status: ["ACTIVE", "PAUSED"] }));
  await tellPages(account.getInsights(["impressions", "campaign_id"], { level: "campaign", date_preset: "last_7d", limit: 5 }));
}

main();
