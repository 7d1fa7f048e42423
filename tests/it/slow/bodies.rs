//! Bodies that drip: the deadline is for the whole on a `json` route, and for the rate on others.

use super::*;

/// Each byte comes long before a read would be given up, and the body never ends.
#[tokio::test]
async fn a_body_that_drips_is_refused_on_each_way() {
    let setup = Setup { server: "limits: { body_timeout: 1s }".to_owned(), ..each_kind(ALL, "") };
    let world = World::with(setup).await;
    for path in [CHAT, UPLOAD] {
        let mut client = world.connect().await;
        let kind = ("content-type", "application/json".to_owned());
        let headers = [bearer(KEY), kind, ("content-length", "1000000".to_owned())];
        client.send(head("POST", path, &headers, b"")).await;
        let begun = Instant::now();
        let answered = async |client: &mut Connection| {
            let mut room = [0];
            tokio::time::timeout(Duration::from_millis(50), client.stream.peek(&mut room)).await.is_ok()
        };
        while !answered(&mut client).await && client.try_send("x").await {
            assert!(begun.elapsed() < SECONDS, "{path}: dripped for {:?}", begun.elapsed());
        }
        client.response("POST").await.error(408, "invalid_request_error", "request_timeout");
        assert!(begun.elapsed() > Duration::from_millis(800), "{path}: after {:?}", begun.elapsed());
        eventually("its connection is closed", async || {
            metric(&world.metrics().await, "gateway_connections") == 0.0 || !client.try_send("x").await
        })
        .await;
    }
}
