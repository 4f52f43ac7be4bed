//! Sends what goes by one connection.

use cache_core::Result;
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::{Answered, Batch, Part, TOGETHER, Write};
use crate::bare::bare_set;
use crate::error::unexpected;
use crate::inner::Inner;
use crate::keys::Keys;
use crate::link::{is_no_script, is_redirection};
use crate::route::Route;

impl Inner {
    pub(super) async fn send_part<'p>(
        &self,
        full: &Keys,
        batch: &Batch<'_>,
        part: &'p Part<'_>,
    ) -> Vec<Answered<'p>> {
        let mut answered = Vec::with_capacity(part.places.len().div_ceil(TOGETHER));
        for places in part.places.chunks(TOGETHER) {
            let answers = self.send_together(full, batch, &part.route, places).await;
            let answers = answers.and_then(|answers| {
                if answers.len() == places.len() { Ok(answers) } else { Err(unexpected()) }
            });
            // Reading the clock costs as much as decoding a header.
            let now = part.route.live.clock.now();
            answered.push(Answered { places, answers, now });
        }
        answered
    }

    /// An answer for each of the places. An error that is about one of them is its answer.
    async fn send_together(
        &self,
        full: &Keys,
        batch: &Batch<'_>,
        route: &Route<'_>,
        places: &[usize],
    ) -> Result<Vec<Value>> {
        let (link, live) = (&*route.link, &route.live);
        let deadline = link.deadline();
        let keys = places.iter().map(|place| full.at(*place));
        if !link.place.is_in_cluster() {
            match batch {
                Batch::Get => return link.read_all(live, keys, deadline).await,
                Batch::BareGet => return self.read_all_bare(route, keys).await,
                Batch::Remove => {
                    let mut command = redis::cmd("UNLINK");
                    keys.for_each(|key| {
                        command.arg(key);
                    });
                    let removed = route.send(command, deadline).await?;
                    return Ok(vec![removed; places.len()]);
                }
                Batch::Set(_) | Batch::BareSet(_) => {}
            }
        }
        let not_after = self.not_after(live);
        let set = |write: &Write<'_>, key| {
            self.scripts.set(key, write.value.as_ref(), &write.options, not_after).by_digest()
        };
        // The commands for each place, of which the last has the answer.
        let command = |place: usize| {
            let key = full.at(place);
            match batch {
                Batch::Get => vec![of("GET", key)],
                Batch::BareGet => {
                    vec![redis::cmd("MULTI"), of("PTTL", key), of("GET", key), redis::cmd("EXEC")]
                }
                Batch::Set(writes) => vec![set(&writes[place], key)],
                Batch::BareSet(writes) => {
                    let write = &writes[place];
                    vec![bare_set(key, write.value.as_ref(), &write.options)]
                }
                Batch::Remove => vec![of("UNLINK", key)],
            }
        };
        let mut answers =
            route.send_units(places.iter().map(|place| command(*place)), deadline).await?;
        if let Some(first) = answers.iter().position(is_no_script) {
            // From there on all of them, so that of two writes of a key the later one stays.
            let load = self.scripts.codes().map(|code| {
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(code);
                load
            });
            let mut units = vec![load.to_vec()];
            units.extend(places[first..].iter().map(|place| command(*place)));
            answers.truncate(first);
            let more = route.send_units(units.into_iter(), link.deadline()).await?;
            answers.extend(more.into_iter().skip(1));
        }
        Ok(answers)
    }

    /// The answers to `PTTL` and `GET` for each key, all from one moment.
    async fn read_all_bare(
        &self,
        route: &Route<'_>,
        keys: impl Iterator<Item = &str>,
    ) -> Result<Vec<Value>> {
        let mut unit = vec![redis::cmd("MULTI")];
        for key in keys {
            unit.extend([of("PTTL", key), of("GET", key)]);
        }
        unit.push(redis::cmd("EXEC"));
        let answers = route.send_units(std::iter::once(unit), route.link.deadline()).await?;
        match route.accepted(answers.into_iter().next().ok_or_else(unexpected)?)? {
            Value::Array(answers) => {
                let mut answers = answers.into_iter();
                let pair = || Some(Value::Array(vec![answers.next()?, answers.next()?]));
                Ok(std::iter::from_fn(pair).collect())
            }
            _ => Err(unexpected()),
        }
    }
}

impl Route<'_> {
    /// Sends units of commands together. Of each the answer to its last command is returned, or the
    /// redirection that is the reason for that one's failure.
    async fn send_units(
        &self,
        units: impl Iterator<Item = Vec<Cmd>>,
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        let mut commands = Pipeline::with_capacity(units.size_hint().0);
        let mut lengths = Vec::with_capacity(units.size_hint().0);
        for unit in units {
            if self.asking {
                commands.cmd("ASKING");
            }
            lengths.push(unit.len() + usize::from(self.asking));
            unit.into_iter().for_each(|command| {
                commands.add_command(command);
            });
        }
        let mut answers = self.link.send_all(&self.live, &commands, deadline).await?.into_iter();
        let unit = |length| {
            let answers: Vec<Value> = answers.by_ref().take(length).collect();
            let redirection = answers.iter().position(is_redirection);
            let of_interest = redirection.unwrap_or(answers.len().saturating_sub(1));
            answers.into_iter().nth(of_interest).unwrap_or(Value::Nil)
        };
        Ok(lengths.into_iter().map(unit).collect())
    }
}

fn of(command: &str, key: &str) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(key);
    command
}
