//! Pingora's own proxy with nothing in it but the swap of keys, to compare with: `bare_pingora LISTEN UPSTREAM KEY FOLDER`.
//!
//! Never does: check a key, count, log.

use std::error::Error;

use async_trait::async_trait;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST};
use pingora::http::RequestHeader;
use pingora_core::prelude::{HttpPeer, Server};
use pingora_core::server::configuration::ServerConf;
use pingora_core::{ErrorType, OrErr, Result};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Bare {
    peer: HttpPeer,
    host: HeaderValue,
    authorization: HeaderValue,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        _: &mut Self::CTX,
    ) -> Result<()> {
        head.insert_header(HOST, self.host.clone())?;
        head.insert_header(AUTHORIZATION, self.authorization.clone())?;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        if let Some(rest) = target.strip_prefix("/openai") {
            let uri = rest.parse().or_err(ErrorType::InternalError, "the rest of the path is no path")?;
            head.set_uri(uri);
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [listen, upstream, key, folder] = &arguments[..] else {
        return Err("usage: bare_pingora LISTEN UPSTREAM KEY FOLDER".into());
    };
    let settings = ServerConf {
        upgrade_sock: format!("{folder}/bare.sock"),
        pid_file: format!("{folder}/bare.pid"),
        // It has one thread, as the gateway beside it.
        work_stealing: false,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let bare = Bare {
        peer: HttpPeer::new(upstream.as_str(), false, String::new()),
        host: HeaderValue::from_str(upstream)?,
        authorization: HeaderValue::from_str(&format!("Bearer {key}"))?,
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
