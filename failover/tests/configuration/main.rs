//! What people who write a configuration see: good files mean what they say, broken ones are
//! refused with the place and with what is allowed there.

#[cfg(test)]
mod broken;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod good;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod refused;
