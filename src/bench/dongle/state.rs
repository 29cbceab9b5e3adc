//! Everything the simulated modem remembers, and what of it survives a restart.

use std::time::Duration;

use super::clock::Clock;
use super::config::Config;
use super::pdp::Pdp;
use super::radio::Radio;
use super::scenario::NetworkTime;
use super::sim::Sim;

/// Settings that `AT&F` puts back and `AT&W` keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) echo: bool,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    pub(super) cmee: u8,
    pub(super) registration: [u8; 3],
}

impl Settings {
    /// As it comes from the factory: echo, texts, and errors as numbers (manual tables 19 to 21).
    pub(super) const FACTORY: Self = Self {
        echo: true,
        quiet: false,
        verbose: true,
        cmee: 1,
        registration: [0; 3],
    };
}

/// How an USB network interface is offered: `AT+QCFG="usbnet"`. 0 (RMNET) is the default.
const LAST_USB_NET: u8 = 3;

/// The modem.
#[derive(Clone, Debug)]
pub(super) struct Modem {
    pub(super) config: Config,
    /// The time of the event that is being handled, since power-on of the engine.
    pub(super) now: Duration,
    pub(super) booted_at: Duration,
    /// `AT+CFUN`: 0 minimum, 1 full, 4 flight mode.
    pub(super) cfun: u8,
    pub(super) settings: Settings,
    /// What `AT&W` kept.
    pub(super) stored: Settings,
    pub(super) sim: Sim,
    pub(super) radio: Radio,
    pub(super) pdp: Pdp,
    pub(super) clock: Clock,
    /// `AT+QURCCFG="urcport"`: this simulator is the AT port. Kept.
    pub(super) urc_port: String,
    usb_net: u8,
}

impl Modem {
    /// A modem that has never run. `host_time` is the host's time at power-on, for scenarios that want it.
    pub(super) fn new(config: Config, host_time: Option<jiff::Timestamp>) -> Self {
        let network = &config.scenario.network;
        let time = match network.time {
            NetworkTime::Host => host_time,
            NetworkTime::None => None,
            NetworkTime::At(time) => Some(time),
        };
        Self {
            now: Duration::ZERO,
            booted_at: Duration::ZERO,
            cfun: 1,
            settings: Settings::FACTORY,
            stored: Settings::FACTORY,
            sim: Sim::new(&config),
            radio: Radio::new(network.registration, network.denied_cause.clone(), network.rsrp),
            pdp: Pdp::default(),
            clock: Clock::new(time, network.zone_quarters),
            urc_port: "usbat".to_owned(),
            usb_net: 0,
            config,
        }
    }

    /// The modem starts (again): what is not kept goes back to its start.
    pub(super) fn boot(&mut self) {
        self.booted_at = self.now;
        self.cfun = 1;
        self.load(self.stored.clone());
        self.sim.power_up();
        self.radio.boot();
        self.pdp.registration_changed();
        self.clock.boot();
    }

    /// Takes settings over.
    pub(super) fn load(&mut self, settings: Settings) {
        self.radio.modes = settings.registration;
        self.settings = settings;
    }

    /// The settings as they are now, for `AT&W`.
    pub(super) fn settings_now(&self) -> Settings {
        Settings {
            registration: self.radio.modes,
            ..self.settings.clone()
        }
    }

    pub(super) fn since_boot(&self) -> Duration {
        self.now.saturating_sub(self.booted_at)
    }

    /// CFUN=0 takes the card's power.
    pub(super) fn sim_powered(&self) -> bool {
        self.cfun != 0
    }

    pub(super) fn registered(&self) -> bool {
        self.radio.is_registered()
    }

    /// Whether the modem would register if it could.
    pub(super) fn wants_network(&self) -> bool {
        self.cfun == 1 && self.radio.is_wanted() && self.sim.ready(self.sim_powered()).is_ok()
    }

    /// Whether unsolicited lines come out of this port.
    pub(super) fn urcs_here(&self) -> bool {
        matches!(self.urc_port.as_str(), "usbat" | "all")
    }

    pub(super) fn usb_net(&self) -> u8 {
        self.usb_net
    }

    /// Sets the network interface; false when there is no such kind.
    pub(super) fn set_usb_net(&mut self, kind: u8) -> bool {
        if kind > LAST_USB_NET {
            return false;
        }
        self.usb_net = kind;
        true
    }
}
