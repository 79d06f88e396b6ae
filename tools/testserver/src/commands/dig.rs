//! dig, nslookup and getent, as far as the tests use them.

use anyhow::Result;

use crate::resolv::{self, A, Config, Record};

pub fn dig(args: &[String]) -> Result<u8> {
    let (mut tcp, mut search, mut short, mut answer) = (false, false, false, true);
    let mut comments = true;
    let mut words = Vec::new();
    for arg in args.iter().skip(1) {
        match arg.as_str() {
            "+tcp" => tcp = true,
            "+search" => search = true,
            "+short" => short = true,
            "+noall" => (answer, comments) = (false, false),
            "+answer" => answer = true,
            other if other.starts_with(['+', '-', '@']) => {}
            other => words.push(other.to_string()),
        }
    }
    let name = words.first().cloned().unwrap_or_else(|| ".".to_string());
    let kind = words
        .iter()
        .skip(1)
        .find_map(|w| resolv::kind(w))
        .unwrap_or(A);
    let config = Config::read();
    let records = if search {
        config.search(&name, kind, tcp)
    } else {
        config.query(name.trim_end_matches('.'), kind, tcp)
    };
    let records = match records {
        Ok(records) => records,
        Err(error) => {
            if comments {
                println!(";; {error:#}");
            }
            return Ok(9);
        }
    };
    for record in &records {
        if short {
            println!("{}", record.data);
        } else if answer {
            println!("{}", line(record));
        }
    }
    Ok(0)
}

fn line(record: &Record) -> String {
    let kind = resolv::kind_name(record.kind);
    format!(
        "{}\t{}\tIN\t{kind}\t{}",
        record.name, record.ttl, record.data
    )
}

pub fn nslookup(args: &[String]) -> Result<u8> {
    let Some(name) = args.iter().skip(1).find(|a| !a.starts_with('-')) else {
        eprintln!("usage: nslookup NAME");
        return Ok(1);
    };
    let config = Config::read();
    if let Some(server) = config.servers.first() {
        println!("Server:\t\t{server}\nAddress:\t{server}#53\n");
    }
    let found: Vec<Record> = [A, resolv::AAAA]
        .into_iter()
        .filter_map(|kind| config.search(name, kind, false).ok())
        .flatten()
        .filter(|r| matches!(r.kind, A | resolv::AAAA))
        .collect();
    for record in &found {
        println!(
            "Name:\t{}\nAddress: {}",
            record.name.trim_end_matches('.'),
            record.data
        );
    }
    if found.is_empty() {
        println!("** server can't find {name}: NXDOMAIN");
        return Ok(1);
    }
    Ok(0)
}

pub fn getent(args: &[String]) -> Result<u8> {
    let (Some(database), Some(name)) = (args.get(1), args.get(2)) else {
        eprintln!("usage: getent DATABASE KEY");
        return Ok(1);
    };
    if !matches!(database.as_str(), "hosts" | "ahosts") {
        eprintln!("Unknown database: {database}");
        return Ok(1);
    }
    match resolv::lookup(name) {
        Ok(addresses) => {
            for address in addresses {
                println!("{:<15}  {name}", address.to_string());
            }
            Ok(0)
        }
        Err(_) => Ok(2),
    }
}
