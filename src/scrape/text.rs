//! A snapshot as OpenMetrics text: names, help, units and labels of every metric are here.
//!
//! Names and units follow Prometheus' conventions. The value of a label may be whatever a plugin is called; the library
//! escapes it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::snapshot::{Plugin, Snapshot};
use crate::drivers::{Outcome, Tally};
use crate::plugins::Status;

/// What the name of every metric begins with.
const PREFIX: &str = "dockplug";

/// Writes a snapshot down.
///
/// # Errors
/// None that can be told: a `String` takes all that is written to it.
pub(super) fn encode(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(snapshot));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(&mut encoder);
        self.write_build(&mut out)?;
        self.write_plugins(&mut out)?;
        self.write_calls(&mut out)?;
        self.write_breakers(&mut out)?;
        self.write_volumes(&mut out)?;
        self.write_requests(&mut out)
    }
}

impl Snapshot {
    fn write_build(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let mut info = out.family(MetricType::Info, "build", "Which dockplug this is.")?;
        info.encode_info(&[("version", self.build.version), ("commit", self.build.commit)])
    }

    fn write_plugins(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let of = |plugin: &Plugin| [("plugin", plugin.name.clone())];

        let help = "Whether the user wants the plugin to run.";
        let mut family = out.family(MetricType::Gauge, "plugin_enabled", help)?;
        for plugin in &self.plugins {
            gauge(&mut family, &of(plugin), &u64::from(plugin.enabled))?;
        }

        let help = "What the plugin's process does: 1 for the state it is in, 0 for the others.";
        let mut family = out.family(MetricType::Gauge, "plugin_state", help)?;
        for plugin in &self.plugins {
            for status in Status::ALL {
                let labels = [("plugin", plugin.name.as_str()), ("state", status.as_str())];
                gauge(&mut family, &labels, &u64::from(plugin.observed.status == status))?;
            }
        }

        let help = "How often the plugin was started again, since it was enabled or the daemon started.";
        let mut family = out.family(MetricType::Counter, "plugin_restarts", help)?;
        for plugin in &self.plugins {
            counter(&mut family, &of(plugin), plugin.observed.restarts.into())?;
        }

        let help = "When the plugin's last process was started, since 1970.";
        let mut family = out.seconds(MetricType::Gauge, "plugin_start_time", help)?;
        for plugin in &self.plugins {
            if let Some(started_at) = plugin.observed.started_at {
                gauge(&mut family, &of(plugin), &started_at.as_duration().as_secs_f64())?;
            }
        }
        Ok(())
    }

    fn write_calls(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let help = "Calls of volume drivers that have ended, by outcome.";
        let mut family = out.family(MetricType::Counter, "volume_driver_calls", help)?;
        for (driver, call, tally) in self.tallies() {
            for outcome in Outcome::ALL {
                let labels = [("driver", driver), ("call", call), ("outcome", outcome.as_str())];
                counter(&mut family, &labels, tally.ended(outcome))?;
            }
        }

        let help = "Calls of volume drivers that have begun and not ended.";
        let mut family = out.family(MetricType::Gauge, "volume_driver_calls_in_flight", help)?;
        for (driver, call, tally) in self.tallies() {
            gauge(&mut family, &[("driver", driver), ("call", call)], &tally.in_flight())?;
        }

        let help = "How long calls of volume drivers took, whatever their outcome.";
        let mut family = out.seconds(MetricType::Histogram, "volume_driver_call_duration", help)?;
        for (driver, call, tally) in self.tallies() {
            let took = tally.durations();
            // Of what was never called there is nothing to know, and much to write.
            if took.count > 0 {
                let labels = [("driver", driver), ("call", call)];
                let mut metric = family.encode_family(&labels)?;
                metric.encode_histogram::<NoLabelSet>(
                    took.sum.as_secs_f64(),
                    took.count,
                    &took.buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }

    fn write_breakers(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let help = "Whether the volume driver is sent no calls of this kind at present, because it did not answer them.";
        let mut family = out.family(MetricType::Gauge, "volume_driver_breaker_open", help)?;
        for (driver, breakers) in &self.breakers {
            for (calls, is_open) in breakers {
                gauge(&mut family, &[("driver", driver.as_str()), ("calls", calls)], &u64::from(*is_open))?;
            }
        }
        Ok(())
    }

    fn write_volumes(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let help = "Volumes that are kept, by driver.";
        let mut family = out.family(MetricType::Gauge, "volumes", help)?;
        for (driver, count) in &self.volumes {
            gauge(&mut family, &[("driver", driver)], count)?;
        }
        Ok(())
    }

    fn write_requests(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let help = "Requests of the API that were answered, by route and class of status.";
        let mut family = out.family(MetricType::Counter, "http_requests", help)?;
        for answered in &self.requests {
            counter(&mut family, &[("route", answered.route), ("status", answered.status)], answered.count)?;
        }
        Ok(())
    }

    /// Driver, call, and its numbers.
    fn tallies(&self) -> impl Iterator<Item = (&str, &'static str, &Tally)> {
        self.calls
            .iter()
            .flat_map(|(driver, calls)| calls.each().map(move |(call, tally)| (driver.as_str(), call, tally)))
    }
}

/// Where metrics are written, a family after the other.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    /// Begins a family without a unit. The help is a sentence without quotes, backslashes and line ends.
    fn family(
        &mut self,
        kind: MetricType,
        name: &'static str,
        help: &str,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    /// Begins a family of times, whose name gets `_seconds`.
    fn seconds(
        &mut self,
        kind: MetricType,
        name: &'static str,
        help: &str,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, Some(&Unit::Seconds), kind)
    }
}

fn gauge(
    family: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    family.encode_family(labels)?.encode_gauge(value)
}

fn counter(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}
