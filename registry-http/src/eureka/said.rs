//! What an entry of a list says to those who read it as a whole, kept so that nobody has to read its JSON again.

use super::wire::{DataCenter, Info, Loose, Pairs, Port};

/// The values of `dataCenterInfo` that are read.
const MACHINE: &str = "instance-id";
const MACHINE_ZONE: &str = "availability-zone";

/// Fields that are one text each.
const TEXTS: usize = 11;
const VIP: usize = 6;
const SECURE_VIP: usize = 7;

/// The part of an [`Info`] that readers of lists need, in one piece: about half as long as the entry that said it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The [`TEXTS`], then keys and values of the metadata in turn. What is absent is empty, which says the same.
    text: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
    port: Port,
    secure_port: Port,
}

impl Said {
    /// `None` if it is longer than 4 GiB.
    pub(crate) fn of(info: &Info<'_>) -> Option<Self> {
        let machine = |key| info.data_center_info.metadata.get(key);
        let texts: [Option<&str>; TEXTS] = [
            info.instance_id.text(),
            info.host_name.text(),
            info.app.text(),
            info.app_group_name.text(),
            info.ip_addr.text(),
            info.status.text(),
            info.vip_address.text(),
            info.secure_vip_address.text(),
            machine(MACHINE),
            machine(MACHINE_ZONE),
            info.metadata.quoted_record(),
        ];
        let pairs = || info.metadata.iter().flat_map(|(key, value)| [key, value]);
        let parts = || texts.into_iter().map(Option::unwrap_or_default).chain(pairs());
        let (length, count) = parts().fold((0, 0), |(length, count), part| (length + part.len(), count + 1));
        let (mut text, mut ends) = (String::with_capacity(length), Vec::with_capacity(count));
        for part in parts() {
            text.push_str(part);
            ends.push(u32::try_from(text.len()).ok()?);
        }
        Some(Self { text: text.into(), ends: ends.into(), port: info.port, secure_port: info.secure_port })
    }

    /// The same for readers.
    pub(crate) fn info(&self) -> Info<'_> {
        let mut kept = Kept { text: &self.text, ends: &self.ends, begin: 0 };
        let mut text = || kept.part().filter(|text| !text.is_empty());
        let [instance_id, host_name, app, app_group_name, ip_addr, status, vip_address, secure_vip_address] =
            std::array::from_fn(|_| Loose::borrowed(text()));
        let machine = [MACHINE, MACHINE_ZONE].map(|key| (key, text()));
        let quoted = text();
        let machine = machine.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Info {
            instance_id,
            host_name,
            app,
            app_group_name,
            ip_addr,
            status,
            port: self.port,
            secure_port: self.secure_port,
            data_center_info: DataCenter { metadata: Pairs::borrowed(machine) },
            metadata: Pairs::kept(kept, quoted),
            vip_address,
            secure_vip_address,
            ..Info::default()
        }
    }

    /// The vip addresses, with commas between.
    pub(crate) fn vip(&self, secure: bool) -> Option<&str> {
        let at = if secure { SECURE_VIP } else { VIP };
        Some(&self.text[self.ends[at - 1] as usize..self.ends[at] as usize]).filter(|vip| !vip.is_empty())
    }
}

/// What follows in a [`Said`]: pairs, when all else has been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<'a> {
    text: &'a str,
    ends: &'a [u32],
    begin: usize,
}

impl<'a> Kept<'a> {
    #[inline]
    fn part(&mut self) -> Option<&'a str> {
        let (end, ends) = self.ends.split_first()?;
        let part = &self.text[self.begin..*end as usize];
        (self.begin, self.ends) = (*end as usize, ends);
        Some(part)
    }
}

impl<'a> Iterator for Kept<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        Some((self.part()?, self.part()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(info: &'a Info<'_>) -> [Option<&'a str>; 9] {
        [
            info.id(),
            info.instance_id.text(),
            info.host_name.text(),
            info.app.text(),
            info.app_group_name.text(),
            info.ip_addr.text(),
            info.status.text(),
            info.vip_address.text(),
            info.secure_vip_address.text(),
        ]
    }

    #[test]
    fn readers_are_told_what_the_entry_says() {
        for entry in [
            "{}",
            r#"{"instanceId":"i","hostName":"h","app":"A","appGroupName":"G","ipAddr":"10.0.0.7","status":"UP",
                "vipAddress":"v,w","secureVipAddress":"s","port":{"$":80,"@enabled":"false"},"securePort":"443",
                "metadata":{"@class":"x","sdk-record":"{\"a\":\"\\n\"}","a":"1","":"2","n":null,"e":"","a":"\u00e4\"","d":7,"l":[1]},
                "dataCenterInfo":{"metadata":{"instance-id":"m","availability-zone":"z","else":"e"}}}"#,
            r#"{"hostName":7,"app":null,"status":true,"port":{"$":"0"},"securePort":null,"metadata":"none",
                "dataCenterInfo":{"metadata":{"instance-id":"m","availability-zone":""}}}"#,
        ] {
            let info: Info<'_> = serde_json::from_str(entry).unwrap();
            let said = Said::of(&info).unwrap();
            let told = said.info();
            assert_eq!(texts(&told), texts(&info), "{entry}");
            assert!(told.metadata.iter().eq(info.metadata.iter()), "{entry}");
            assert_eq!(told.metadata.quoted_record(), info.metadata.quoted_record(), "{entry}");
            assert_eq!((told.port, told.secure_port), (info.port, info.secure_port));
            for key in [MACHINE, MACHINE_ZONE] {
                assert_eq!(told.data_center_info.metadata.get(key), info.data_center_info.metadata.get(key));
            }
            assert_eq!(said.vip(false), info.vip_address.text());
            assert_eq!(said.vip(true), info.secure_vip_address.text());
        }
    }
}
