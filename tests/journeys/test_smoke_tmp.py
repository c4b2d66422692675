async def test_it(twins):
    t = await twins()
    h = await t.alike("/v25.0/111?fields=id,name", token="tokA")
    print(h, t.behind.ledger.requests)
    h = await t.through.say("/v25.0/111?fields=id,name", token="tokA")
    print(h)
    h = await t.alike("/v25.0/me/accounts?limit=3", token="tokA")
    print(h)
