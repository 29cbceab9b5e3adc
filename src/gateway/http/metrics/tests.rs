use super::*;
use crate::clock::Clock;
use crate::gateway::status::health;

#[test]
fn every_metric_has_its_help_and_its_unit_and_no_device_is_in_it() {
    let status = Status::new(Clock::new(), ([127, 0, 0, 1], 1883).into(), "h:8883".into(), 3);
    let text = render(&status).unwrap();
    assert!(text.ends_with("# EOF\n"));
    for want in [
        "# TYPE onyx_gateway_connections gauge\n",
        "onyx_gateway_connections{state=\"relayed\"} 0\n",
        "onyx_gateway_connections_refused_total{reason=\"unknown_device\"} 0\n",
        "onyx_gateway_connections_ended_total{reason=\"device_silent\"} 0\n",
        "# UNIT onyx_gateway_mqtt_bytes bytes\n",
        "onyx_gateway_mqtt_bytes_total{direction=\"up\"} 0\n",
        "onyx_gateway_upstream_handshakes_total{tls=\"1.3\",kind=\"resumed\"} 0\n",
        "onyx_gateway_upstream_handshake_seconds_bucket{le=\"+Inf\",kind=\"full\"} 0\n",
        "onyx_gateway_subscribers 3\n",
        "# TYPE process_cpu_seconds counter\n",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(want), "{want:?} is not in\n{text}");
    }
    assert!(!text.contains("store"), "there is no store");
    let types = text.lines().filter(|l| l.starts_with("# TYPE")).count();
    assert_eq!(types, text.lines().filter(|l| l.starts_with("# HELP")).count());
}

#[test]
fn a_silent_store_is_down() {
    let now = |store| Now {
        counts: Counts::default(),
        process: Process::default(),
        store: Some(store),
        found: Some(Arc::default()),
        subscribers: 0,
        places: Some(10),
        slow: Some(2),
        now: std::time::Duration::from_secs(2_000_000_000),
        uptime: std::time::Duration::from_secs(7),
    };
    let text = |store| {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(now(store)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    let well = text(StoreState {
        generation: Some(41),
        ..StoreState::default()
    });
    for want in [
        "onyx_gateway_store_up 1\n",
        "onyx_gateway_store_generation 41\n",
        "onyx_gateway_store_errors_total 0\n",
        "onyx_gateway_slow_addresses 2\n",
        "onyx_gateway_connections_limit 10\n",
        "onyx_gateway_credentials{days_left=\"expired\"} 0\n",
        "process_start_time_seconds 1999999993.0\n",
    ] {
        assert!(well.contains(want), "{want:?} is not in\n{well}");
    }
    let silent = text(StoreState {
        generation: Some(41),
        silent_since: Some(health::LATELY),
        ..StoreState::default()
    });
    assert!(silent.contains("onyx_gateway_store_up 0\n"));
}
