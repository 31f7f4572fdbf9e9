//! Bad input: its status and code, and that it harms nothing else.

use crate::common::{Request, Setup, on_both_stores};
use serde_json::json;

on_both_stores!(
    bad_run_ids,
    bad_bodies,
    a_bad_element_leaves_nothing_behind,
    too_large,
    bad_queries,
    wrong_types_and_methods,
    bad_cursors,
);

fn bad_run_ids(setup: Setup) {
    let hub = setup.hub();
    let (long, fits) = ("x".repeat(129), "x".repeat(128));
    for bad in [
        "a%20b",
        "a%2Fb",
        "a%2fb",
        "a%252Fb",
        "..%2f..%2fetc",
        "a/b",
        "a%0Ab",
        "a%0d",
        "a%00b",
        "%ff",
        "%C3%A9",
        ".",
        "..",
        "...",
        "%2e%2e",
        &long,
        "a:b",
        "%7Ba%7D",
        "*",
        "a%25b",
        "",
    ] {
        for (method, rest) in
            [("POST", "/events"), ("GET", "/events"), ("GET", "/events/stream"), ("PUT", "/expiry")]
        {
            let request = Request::new(method, &format!("/runs/{bad}{rest}"));
            let request = if method == "GET" { request } else { request.json(r#"{"type":"a.b"}"#) };
            hub.send(request).is_problem(400, "INVALID_RUN_ID");
        }
        if !bad.contains('/') && !bad.is_empty() {
            hub.get(&format!("/runs/{bad}")).is_problem(400, "INVALID_RUN_ID");
            hub.send(Request::new("DELETE", &format!("/runs/{bad}")))
                .is_problem(400, "INVALID_RUN_ID");
        }
    }
    for good in [fits.as_str(), "a.b_c~d-E9", "..a", "7"] {
        hub.publish(good, &json!({ "type": "a.b" }));
    }
    assert_eq!(hub.get("/runs").json()["runs"].as_array().unwrap().len(), 4);
}

fn bad_bodies(setup: Setup) {
    let hub = setup.hub();
    let deep = format!(r#"{{"type":"a.b","data":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let invalid_utf8 = b"{\"type\":\"a.b\",\"data\":\"\xff\"}".as_slice();
    let cases: [(&[u8], u16, &str); 34] = [
        (b"", 400, "INVALID_JSON"),
        (b"{", 400, "INVALID_JSON"),
        (b"nonsense", 400, "INVALID_JSON"),
        (br#"{"type":"a.b"} x"#, 400, "INVALID_JSON"),
        (br#"{"type":"a.b","data":NaN}"#, 400, "INVALID_JSON"),
        (br#"{"type":"a.b","data":'x'}"#, 400, "INVALID_JSON"),
        (b"{\"type\":\"a.b\",\"data\":\"a\x00b\"}", 400, "INVALID_JSON"),
        (b"{\"type\":\"a.b\",\"data\":\"a\nb\"}", 400, "INVALID_JSON"),
        (b"\xef\xbb\xbf{\"type\":\"a.b\"}", 400, "INVALID_JSON"),
        (b"[{\"type\":\"a.b\"},", 400, "INVALID_JSON"),
        (invalid_utf8, 400, "INVALID_JSON"),
        (br#"{"type":"a.b","data":"\ud800"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","trace_id":"\udc00x"}"#, 422, "INVALID_EVENT"),
        (deep.as_bytes(), 422, "INVALID_EVENT"),
        (b"[]", 422, "INVALID_EVENT"),
        (b"7", 422, "INVALID_EVENT"),
        (b"null", 422, "INVALID_EVENT"),
        (br#""text""#, 422, "INVALID_EVENT"),
        (b"{}", 422, "INVALID_EVENT"),
        (br#"{"data":1}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"LLM.stream"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"llm"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"llm.str\neam"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"llm.x\ndata: forged"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"llm.x\u0000"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"gap"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","unknown":1}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","type":"a.b"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","event_id":"a\r\nb"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","event_id":""}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","priority":"urgent"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","timestamp":"yesterday"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","source":"me"}"#, 422, "INVALID_EVENT"),
        (br#"{"type":"a.b","run_id":"other"}"#, 422, "INVALID_EVENT"),
    ];
    for (body, status, code) in cases {
        hub.post("/runs/r/events", body).is_problem(status, code);
    }
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
}

fn a_bad_element_leaves_nothing_behind(setup: Setup) {
    let hub = setup.hub();
    let answer = hub.post("/runs/r/events", r#"[{"type":"a.b"},{"type":"a.b"},{"type":"A.b"}]"#);
    answer.is_problem(422, "INVALID_EVENT");
    assert_eq!(answer.json()["index"], 2);
    // A list is no object, however well its values fit the fields in their order.
    for list in [
        r#"{"event":["a","b"]}"#,
        r#"[[null,null,null,null,null,null,"a.b",null,1,null,null,null,null,null,null,null,null,null,null]]"#,
    ] {
        let answer = hub.post("/runs/r/events", list);
        answer.is_problem(422, "INVALID_EVENT");
        assert!(answer.text().contains("expected an object"), "{}", answer.text());
    }
    hub.post("/events", r#"[["r",null]]"#).is_problem(422, "INVALID_EVENT");
    hub.send(Request::new("PUT", "/runs/r/expiry").json("[60]")).is_problem(400, "INVALID_JSON");
    let lines = "{\"type\":\"a.b\"}\n{broken\n";
    let answer =
        hub.send(Request::new("POST", "/runs/r/events").body("application/x-ndjson", lines));
    answer.is_problem(422, "INVALID_EVENT");
    assert_eq!(answer.json()["index"], 1);
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
}

fn too_large(setup: Setup) {
    let hub = setup.hub();
    let event = |bytes: usize| format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(bytes - 2));
    hub.post("/runs/r/events", event((1 << 20) + 1)).is_problem(413, "EVENT_TOO_LARGE");
    assert_eq!(hub.post("/runs/r/events", event(1 << 20)).status, 201);
    let batch = |count: usize| format!("[{}]", vec![r#"{"type":"a.b"}"#; count].join(","));
    hub.post("/runs/r/events", batch(1001)).is_problem(413, "BATCH_TOO_LARGE");
    assert_eq!(hub.post("/runs/r/events", batch(1000)).status, 201);
    let huge = format!("[{}]", vec![event(1 << 20); 18].join(","));
    hub.post("/runs/r/events", huge).is_problem(413, "BATCH_TOO_LARGE");
    let metadata = format!(r#"{{"type":"a.b","metadata":{{"x":"{}"}}}}"#, "x".repeat(70_000));
    hub.post("/runs/r/events", metadata).is_problem(413, "EVENT_TOO_LARGE");
    assert_eq!(hub.get("/runs/r").json()["length"], 1001);
}

fn bad_queries(setup: Setup) {
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "a.b" }));
    for query in [
        "limit=0",
        "limit=-1",
        "limit=abc",
        "limit=10001",
        "limit=",
        "limit=1&limit=2",
        "limit=%2B1",
        "limit=1.5",
        "order=up",
        "order=",
        "types=",
        "types=LLM.*",
        "types=a.b%0A",
        "types=*.end",
        "agent=",
    ] {
        hub.get(&format!("/runs/r/events?{query}")).is_problem(400, "INVALID_QUERY");
    }
    for query in ["from=middle", "framing=x", "must_exist=1", "types=llm", "from=start&from=live"] {
        hub.get(&format!("/runs/r/events/stream?{query}")).is_problem(400, "INVALID_QUERY");
    }
    for query in ["limit=0", "limit=1001", "status=done", "cursor=x", "cursor=1_a%2Fb"] {
        hub.get(&format!("/runs?{query}")).is_problem(400, "INVALID_QUERY");
    }
    hub.post("/runs/r/events?ack=maybe", r#"{"type":"a.b"}"#).is_problem(400, "INVALID_QUERY");
    for query in ["start_id=5", "end_id=$", "after=x", "start_id=1-*", "after=-"] {
        hub.get(&format!("/runs/r/events?{query}")).is_problem(400, "INVALID_EVENT_ID");
    }
    // Names that are not known are left alone.
    assert_eq!(hub.get("/runs/r/events?_=123&utm_source=x").status, 200);
}

fn wrong_types_and_methods(setup: Setup) {
    let hub = setup.hub();
    let body = r#"{"type":"a.b"}"#;
    for kind in [
        "text/plain",
        "application/xml",
        "multipart/form-data",
        "application/json; charset=latin1",
        "json",
    ] {
        let answer = hub.send(Request::new("POST", "/runs/r/events").body(kind, body));
        answer.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    for encoding in ["gzip", "foo"] {
        let request =
            Request::new("POST", "/runs/r/events").json(body).header("content-encoding", encoding);
        hub.send(request).is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    for (method, path, allow) in [
        ("PUT", "/runs/r/events", "GET, HEAD, POST"),
        ("POST", "/runs/r/events/stream", "GET, HEAD"),
        ("TRACE", "/runs/r/events", "GET, HEAD, POST"),
        ("POST", "/runs/r", "GET, HEAD, DELETE"),
        ("GET", "/runs/r/expiry", "PUT"),
        ("DELETE", "/runs", "GET, HEAD"),
        ("POST", "/health/live", "GET, HEAD"),
    ] {
        let answer = hub.send(Request::new(method, path));
        answer.is_problem(405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), Some(allow));
    }
    for path in ["/nothing", "/runs/r/nothing", "/runs/r/events/", "/Runs"] {
        hub.get(path).is_problem(404, "NOT_FOUND");
    }
    let get =
        |path: &str, accept: &str| hub.send(Request::new("GET", path).header("accept", accept));
    get("/runs/r/events/stream", "application/json").is_problem(406, "NOT_ACCEPTABLE");
    get("/runs/r/events", "text/html").is_problem(406, "NOT_ACCEPTABLE");
    hub.get("/runs/r").is_problem(404, "RUN_NOT_FOUND");
}

fn bad_cursors(setup: Setup) {
    let hub = setup.hub();
    hub.publish("r", &json!({ "type": "a.b" }));
    let long = "1".repeat(60_000);
    for cursor in
        ["abc", "$", ">", "+", "-", "1-*", "5", "0x1-0", "1-1-1", "18446744073709551616-0", &long]
    {
        let request = Request::new("GET", "/runs/r/events/stream").header("last-event-id", cursor);
        hub.send(request).is_problem(400, "INVALID_EVENT_ID");
    }
    let twice = Request::new("GET", "/runs/r/events/stream").header("last-event-id", "1-0");
    hub.send(twice.header("last-event-id", "2-0")).is_problem(400, "INVALID_EVENT_ID");
    hub.get("/runs/r/events/stream?last_event_id=5").is_problem(400, "INVALID_EVENT_ID");
    // A page that has seen nothing yet has nothing to say.
    assert_eq!(hub.follow("/runs/r/events/stream?last_event_id=").sequences(1), [1]);
}
