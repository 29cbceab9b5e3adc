//! What happens to the modem: power, the card, the network.

use std::time::Duration;

use super::{Engine, LOADING, Power, Timer};
use crate::bench::dongle::radio;
use crate::bench::dongle::scenario::{Event, Registration};

impl Engine {
    pub(super) fn power_off(&mut self) {
        self.power = Power::Off;
        self.busy = None;
        self.held.clear();
        self.reader.clear();
        self.cancel(|timer| {
            !matches!(
                timer,
                Timer::Scenario(_) | Timer::EndSilence | Timer::EndGarbage | Timer::EndLoss | Timer::Plug
            )
        });
    }

    pub(super) fn power_on(&mut self) {
        self.power_off();
        self.power = Power::Booting;
        self.modem.boot();
        let boot = self.modem.config.scenario.boot_time.get();
        let sim = self.modem.config.scenario.sim.ready_after.get();
        self.after(boot, Timer::Rdy);
        self.after(boot.max(sim), Timer::SimReady);
    }

    pub(super) fn rdy(&mut self) {
        self.power = Power::Running;
        let nuls = vec![0; self.modem.config.scenario.noise.nul_at_start.into()];
        self.emit(&nuls);
        self.urc("RDY");
        self.urc("+CFUN: 1");
    }

    pub(super) fn unplug(&mut self, lasting: Option<Duration>) {
        self.power_off();
        self.plugged = false;
        self.out.clear();
        self.cancel(|timer| *timer == Timer::Plug);
        if let Some(lasting) = lasting {
            self.after(lasting, Timer::Plug);
        }
    }

    pub(super) fn plug(&mut self) {
        if !self.plugged || self.power == Power::Off {
            self.plugged = true;
            self.cancel(|timer| *timer == Timer::Plug);
            self.power_on();
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Silent(lasting) => {
                self.silent = true;
                self.reader.clear();
                self.cancel(|timer| *timer == Timer::EndSilence);
                if let Some(lasting) = lasting {
                    self.after(lasting, Timer::EndSilence);
                }
            }
            Event::Talk => {
                self.silent = false;
                self.garbage = false;
                self.latency = Duration::ZERO;
                self.cancel(|timer| matches!(timer, Timer::EndSilence | Timer::EndGarbage));
            }
            Event::Late(by) => self.latency = by,
            Event::Garbage(lasting) => {
                self.garbage = true;
                self.cancel(|timer| *timer == Timer::EndGarbage);
                if let Some(lasting) = lasting {
                    self.after(lasting, Timer::EndGarbage);
                }
            }
            Event::LoseNetwork(lasting) => {
                self.modem.radio.lost = true;
                self.cancel(|timer| *timer == Timer::EndLoss);
                if let Some(lasting) = lasting {
                    self.after(lasting, Timer::EndLoss);
                }
            }
            Event::FindNetwork => {
                self.cancel(|timer| *timer == Timer::EndLoss);
                let usual = self.modem.config.scenario.network.registration;
                let radio = &mut self.modem.radio;
                if matches!(radio.registration, Registration::Denied | Registration::None) {
                    radio.found = false;
                    radio.registration = if usual == Registration::Home {
                        usual
                    } else {
                        Registration::Roaming
                    };
                }
                radio.lost = false;
            }
            Event::Deny(cause) => {
                self.modem.radio.registration = Registration::Denied;
                self.modem.radio.denied_cause = cause;
            }
            Event::Signal(rsrp) => self.modem.radio.rsrp = rsrp,
            Event::RemoveSim => self.card(false),
            Event::InsertSim => self.card(true),
            Event::Crash => self.power_on(),
            Event::Unplug(lasting) => self.unplug(lasting),
            Event::Plug => self.plug(),
            Event::Urc(text) => self.urc(&text),
            Event::Bytes(bytes) => self.emit(&bytes),
        }
    }

    fn card(&mut self, inserted: bool) {
        if self.modem.sim.inserted == inserted {
            return;
        }
        self.modem.sim.inserted = inserted;
        if let Some(text) = self.modem.sim.slot_urc() {
            self.urc(&text);
        }
        if inserted {
            self.sim_restart();
        } else {
            self.sim_off();
        }
    }

    pub(super) fn sim_off(&mut self) {
        self.modem.sim.power_up();
        self.cancel(|timer| matches!(timer, Timer::SimReady | Timer::SmsDone | Timer::PhoneBookDone));
        self.urc("+CPIN: NOT READY");
    }

    pub(super) fn sim_restart(&mut self) {
        self.modem.sim.power_up();
        if self.power == Power::Running && self.modem.sim_powered() {
            self.after(self.modem.config.scenario.sim.ready_after.get(), Timer::SimReady);
        }
    }

    pub(super) fn sim_ready(&mut self) {
        self.modem.sim.initialised = true;
        let powered = self.modem.sim_powered();
        let word = self.modem.sim.announcement(powered);
        self.urc(&format!("+CPIN: {word}"));
        self.load_card();
    }

    pub(super) fn load_card(&mut self) {
        if self.modem.sim.ready(self.modem.sim_powered()).is_ok() {
            self.urc("+QUSIM: 1");
            self.after(LOADING, Timer::SmsDone);
            self.after(LOADING * 2, Timer::PhoneBookDone);
        }
    }

    /// Brings the registration in line with everything else.
    pub(super) fn refresh(&mut self) {
        if self.power != Power::Running {
            return;
        }
        let modem = &mut self.modem;
        let there = !modem.radio.lost && modem.radio.registration != Registration::None;
        if modem.wants_network() && there {
            if !modem.radio.found && !self.timers.values().any(|timer| *timer == Timer::Found) {
                self.after(self.modem.config.scenario.network.register_after.get(), Timer::Found);
            }
        } else {
            modem.radio.found = false;
            self.cancel(|timer| *timer == Timer::Found);
        }
        let modem = &mut self.modem;
        let (stat, cause) = radio::state(modem);
        if stat == modem.radio.stat {
            return;
        }
        modem.radio.stat = stat;
        if cause.is_some() {
            modem.radio.last_failure = cause;
        }
        modem.pdp.registration_changed();
        if modem.radio.is_registered() {
            modem.clock.told(modem.now);
        }
        for text in modem.radio.urcs() {
            self.urc(&text);
        }
    }
}
