//! Text to policy, by the rules of `security/ipe/policy_parser.c` of Linux 6.12.
//!
//! A line ends at a line feed or a carriage return, and the text at a NUL. What stands behind a `#` is a
//! comment, wherever it is. Spaces and tabs separate tokens; at the end of a line, what the kernel's
//! `isspace` knows is cut off too, which is also 0xA0. Everything is bytes and in the case it is shown in
//! here; nothing can be quoted. The checks run in the kernel's order, since the first to fail decides
//! what is told.

use super::error::{PolicyError, PolicyFault};
use super::evaluate::Index;
use super::op::ByOp;
use super::property::{Property, halves};
use super::rule::{Action, Rule};
use super::{
    Fallback, GLOBS_MAX, LINE_TOKENS_MAX, Op, Policy, RULES_MAX, TEXT_MAX, TOKEN_MAX, Table, Version,
};

pub(super) fn parse(text: &[u8]) -> Result<Policy, PolicyError> {
    if text.len() > TEXT_MAX {
        return Err(PolicyError::new(1, b"", PolicyFault::TextTooLong));
    }
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (mut header, mut draft, mut last) = (None, Draft::default(), 1);
    for (number, line) in lines(text) {
        let line = trimmed(line.split(|byte| *byte == b'#').next().unwrap_or_default());
        if line.is_empty() {
            continue;
        }
        last = number;
        if header.is_none() {
            header = Some(parse_header(line, number)?);
        } else {
            draft.rule(line, number)?;
        }
    }
    let (name, version) = header.ok_or_else(|| PolicyError::new(last, b"", PolicyFault::NoHeader))?;
    let Draft { default, mut tables, .. } = draft;
    let kernel = Op::ALL.into_iter().filter(|op| !op.is_addition());
    let missing = kernel.into_iter().find(|op| tables.of(*op).default.is_none());
    if let (None, Some(op)) = (default, missing) {
        return Err(PolicyError::new(last, b"", PolicyFault::NoDefault { op }));
    }
    for table in tables.iter_mut() {
        table.rules.shrink_to_fit();
        table.index = Index::of(&table.rules);
    }
    Ok(Policy { name, version, default, tables })
}

/// The lines of `text` that are not empty, and their numbers from 1.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let (mut rest, mut number) = (Some(text), 0);
    std::iter::from_fn(move || {
        let text = rest?;
        number += 1;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some((number, text));
        };
        let (line, behind) = text.split_at_checked(end)?;
        rest = behind.strip_prefix(b"\r\n").or_else(|| behind.get(1..));
        Some((number, line))
    })
}

fn trimmed(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | b' ' | 0xa0] = line {
        line = rest;
    }
    line
}

/// The tokens of a line, within the limits.
fn tokens(line: &[u8], number: usize) -> impl Iterator<Item = Result<&[u8], PolicyError>> {
    let all = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|token| !token.is_empty());
    all.enumerate().map(move |(at, token)| {
        let fault = if at >= LINE_TOKENS_MAX {
            PolicyFault::TooManyTokens
        } else if token.len() > TOKEN_MAX {
            PolicyFault::TokenTooLong
        } else {
            return Ok(token);
        };
        Err(PolicyError::new(number, token, fault))
    })
}

/// What follows `keyword`, if that is something.
fn behind<'t>(token: &'t [u8], keyword: &[u8]) -> Option<&'t [u8]> {
    token.strip_prefix(keyword).filter(|value| !value.is_empty())
}

fn parse_header(line: &[u8], number: usize) -> Result<(Box<[u8]>, Version), PolicyError> {
    let mut tokens = tokens(line, number);
    let (mut name, mut version) = (None, None);
    for token in tokens.by_ref() {
        let token = token?;
        let refuse = |fault| PolicyError::new(number, token, fault);
        if name.is_none() {
            name = Some(behind(token, b"policy_name=").ok_or_else(|| refuse(PolicyFault::HeaderName))?);
        } else if version.is_none() {
            let value =
                behind(token, b"policy_version=").ok_or_else(|| refuse(PolicyFault::HeaderVersion))?;
            version = Some(parse_version(value).map_err(refuse)?);
        } else {
            return Err(refuse(PolicyFault::HeaderTrailing));
        }
    }
    match (name, version) {
        (Some(name), Some(version)) => Ok((name.into(), version)),
        (None, _) => Err(PolicyError::new(number, line, PolicyFault::HeaderName)),
        (_, None) => Err(PolicyError::new(number, b"", PolicyFault::HeaderVersion)),
    }
}

fn parse_version(value: &[u8]) -> Result<Version, PolicyFault> {
    let mut parts = [None; 3];
    let mut places = parts.iter_mut();
    for digits in value.split(|byte| *byte == b'.') {
        let place = places.next().ok_or(PolicyFault::VersionParts)?;
        *place = Some(parse_u16(digits)?);
    }
    let [Some(major), Some(minor), Some(revision)] = parts else { return Err(PolicyFault::VersionParts) };
    Ok(Version { major, minor, revision })
}

/// `kstrtou16` of `lib/kstrtox.c` in base 10: one `+` may stand before the digits, and any number of
/// zeros. More than 64 bits are out of range whatever follows; less than that must be all there is.
fn parse_u16(text: &[u8]) -> Result<u16, PolicyFault> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let (mut value, mut count) = (0_u64, 0);
    for digit in digits {
        let next = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0')));
        value = next.ok_or(PolicyFault::VersionRange)?;
        count += 1;
    }
    if count == 0 || count < text.len() {
        return Err(PolicyFault::VersionNumber);
    }
    u16::try_from(value).map_err(|_| PolicyFault::VersionRange)
}

/// What the lines so far add up to.
#[derive(Default)]
struct Draft {
    default: Option<Fallback>,
    tables: ByOp<Table>,
    rules: usize,
    globs: usize,
}

impl Draft {
    fn rule(&mut self, line: &[u8], number: usize) -> Result<(), PolicyError> {
        let mut tokens = tokens(line, number).peekable();
        let (mut is_default, mut op, mut properties) = (false, None, Vec::new());
        let mut first = true;
        let mut end: &[u8] = b"";
        while let Some(token) = tokens.next() {
            let token = token?;
            if tokens.peek().is_none() {
                end = token;
                break;
            }
            let refuse = |fault| PolicyError::new(number, token, fault);
            if first && token == b"DEFAULT" {
                is_default = true;
            } else if op.is_none() {
                let word = halves(token, b'=').filter(|(keyword, _)| *keyword == b"op");
                let found = word.and_then(|(_, word)| Op::of(word));
                op = Some(found.ok_or_else(|| refuse(PolicyFault::Operation))?);
            } else {
                let property = Property::parse(token).map_err(refuse)?;
                if let Property::Path(pattern) = &property {
                    self.globs += usize::from(pattern.is_compiled());
                    if self.globs > GLOBS_MAX {
                        return Err(refuse(PolicyFault::TooManyGlobs));
                    }
                }
                properties.push(property);
            }
            first = false;
        }
        let refuse = |token, fault| Err(PolicyError::new(number, token, fault));
        let action = match end {
            b"action=ALLOW" => Action::Allow,
            b"action=DENY" => Action::Deny,
            _ => return refuse(end, PolicyFault::Action),
        };
        if is_default {
            let place = match op {
                _ if !properties.is_empty() => return refuse(b"", PolicyFault::DefaultProperties),
                Some(op) => &mut self.tables.of_mut(op).default,
                None => &mut self.default,
            };
            if place.is_some() {
                return refuse(b"", PolicyFault::DuplicateDefault);
            }
            *place = Some(Fallback { line: number, action });
            return Ok(());
        }
        let Some(op) = op else { return refuse(end, PolicyFault::NoOperation) };
        if self.rules == RULES_MAX {
            return refuse(b"", PolicyFault::TooManyRules);
        }
        self.rules += 1;
        let properties = properties.into_boxed_slice();
        self.tables.of_mut(op).rules.push(Rule { line: number, op, properties, action });
        Ok(())
    }
}
