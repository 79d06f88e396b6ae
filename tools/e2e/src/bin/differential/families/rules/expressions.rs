//! Expressions of a type, over what `self` is at a place of the schema.

use crate::step::Dice;

/// What `self` is.
#[derive(Clone, Copy, PartialEq)]
pub enum Scope {
    Root,
    Spec,
    Status,
    Text,
    Int,
    Object,
    Item,
    SetItem,
    List,
}

/// Whether an expression may speak of the old value, and as what.
#[derive(Clone, Copy, PartialEq)]
pub enum OldSelf {
    None,
    There,
    Optional,
}

/// An expression with `P` for what it is about, and smaller ones of a type in its place: `I`, `S` and `B`.
type Form = &'static str;

const SPEC_INTS: &[Form] = &[
    "P.i",
    "P.i",
    "P.j",
    "P.d",
    "P.o.x",
    "size(P.l)",
    "P.set.size()",
    "P.li.sum()",
    "P.li[0]",
    "P.li.max()",
    "P.li.min()",
    "P.m['k1']",
    "P.items[0].n",
    "P.s.indexOf('b')",
    "int(P.n)",
    "P.s.size()",
    "P.when.getFullYear()",
    "P.day.getMonth()",
    "P.?i.orValue(3)",
    "P.?o.?x.orValue(2)",
    "P.items.map(x, x.?n.orValue(0)).sum()",
    "P.free.x",
    "P.emb.spec.x",
    "int(P.s)",
    "P.span.getSeconds()",
    "P.l.indexOf('a')",
    "size(P.m)",
    "P.by.size()",
    "P.s.lastIndexOf('a')",
    "P.li.filter(x, x > 1).size()",
    "P.li.indexOf(I)",
    "semver(P.s).major()",
    "cidr(P.t).prefixLength()",
];
const SPEC_TEXTS: &[Form] = &[
    "P.s",
    "P.s",
    "P.t",
    "P.e",
    "P.__namespace__",
    "P.a__dash__b",
    "P.l[0]",
    "P.l.join(',')",
    "string(P.i)",
    "string(P.n)",
    "string(P.b)",
    "P.s.lowerAscii()",
    "P.s.upperAscii()",
    "P.s.replace('a', 'b')",
    "P.s.substring(1)",
    "P.s.charAt(0)",
    "P.t.trim()",
    "P.s.split(',')[0]",
    "P.items[0].k",
    "P.emb.metadata.name",
    "P.emb.kind",
    "P.nul",
    "P.t.find('[a-z]+')",
    "'%s is %d'.format([P.s, P.i])",
    "P.o.y",
    "P.?t.orValue('none')",
    "string(P.when)",
    "string(P.span)",
    "string(P.by)",
    "'%d of %s'.format([I, S])",
    "url(P.t).getHost()",
    "P.set[0]",
    "string(P.day)",
    "string(ip(P.s))",
];
const SPEC_BOOLS: &[Form] = &[
    "P.b",
    "has(P.i)",
    "has(P.s)",
    "has(P.o.x)",
    "has(P.nul)",
    "has(P.d)",
    "has(P.free.x)",
    "P.l.all(x, x.size() < 3)",
    "P.l.exists(x, x == 'a')",
    "P.l.exists_one(x, x == 'a')",
    "P.li.all(x, x > 0)",
    "P.m.all(k, P.m[k] > 0)",
    "P.m.exists(k, k == 'k1')",
    "P.m.all(k, v, v > 0 && k != 'x')",
    "P.items.all(x, has(x.n) && x.n > 0)",
    "P.items.exists(x, x.k == 'a')",
    "P.items.all(i, x, i < 2 || x.k == 'abc')",
    "'a' in P.l",
    "'a' in P.set",
    "'k1' in P.m",
    "P.s in ['abc', 'x']",
    "P.i in P.li",
    "P.when > timestamp('2001-01-01T00:00:00Z')",
    "P.day < timestamp('2010-01-01T00:00:00Z')",
    "P.span < duration('1h')",
    "P.span >= duration('90m')",
    "type(P.ios) == int",
    "P.ios == 5",
    "P.ios == '50%'",
    "(type(P.ios) == int ? P.ios > 3 : P.ios.endsWith('%'))",
    "isQuantity(P.s)",
    "quantity(P.s).isGreaterThan(quantity('1'))",
    "quantity(P.s).add(quantity('1Mi')).asInteger() > 5",
    "isIP(P.s)",
    "ip(P.s).family() == 4",
    "isCIDR(P.t)",
    "cidr(P.t).containsIP('10.1.2.3')",
    "isURL(P.t)",
    "isSemver(P.s)",
    "semver(P.s).isLessThan(semver('2.0.0'))",
    "P.s.matches('^[a-z]+$')",
    "P.t.matches(P.s)",
    "P.li.isSorted()",
    "P.l.isSorted()",
    "P.n > 0.25",
    "P.n < double(P.i)",
    "P.n == 2.0",
    "P.l == ['a']",
    "P.set == ['a', 'b']",
    "P.m == {'k1': 1}",
    "P.by == b'hello'",
    "P.emb.metadata.name.startsWith('a')",
    "!format.dns1123Label().validate(P.s).hasValue()",
    "P.?nul.hasValue()",
    "P.items == P.items",
    "P.items.map(x, x.k) == ['a']",
    "P.l + ['z'] == ['a', 'z']",
    "P.set + ['a'] == P.set",
    "sets.contains(P.set, ['a'])",
    "sets.intersects(P.l, P.set)",
    "P.li.map(x, x * 2).exists(x, x == 6)",
    "P.l.map(x, x == 'a', x.size()).size() == 1",
    "P.free == P.free",
    "dyn(P.i) == 1.0",
    "P.i == P.j",
];

/// What `self` has of each type.
fn own(scope: Scope) -> [&'static [Form]; 3] {
    match scope {
        Scope::Spec => [SPEC_INTS, SPEC_TEXTS, SPEC_BOOLS],
        Scope::Root => [
            &["P.spec.i", "size(P.metadata.name)", "P.spec.?i.orValue(1)"],
            &["P.metadata.name", "P.spec.s", "P.kind", "P.apiVersion"],
            &[
                "has(P.spec)",
                "has(P.status)",
                "P.metadata.name.startsWith('n')",
                "has(P.metadata.generateName)",
                "has(P.spec.o)",
            ],
        ],
        Scope::Status => [&["P.phase.size()"], &["P.phase"], &["has(P.phase)"]],
        Scope::Text | Scope::SetItem => [
            &["P.size()", "P.indexOf('b')"],
            &["P", "P.upperAscii()", "P.substring(0, 1)"],
            &[
                "P.startsWith('a')",
                "P.contains('b')",
                "P.matches('^[a-z]*$')",
                "P in ['abc', 'a']",
            ],
        ],
        Scope::Int => [
            &["P", "P + 1", "P * 2"],
            &["(P > 1 ? 'many' : 'few')"],
            &["P > 0", "P in [1, 2]"],
        ],
        Scope::Object => [
            &["P.x", "P.?x.orValue(0)"],
            &["P.y", "P.?y.orValue('')"],
            &["has(P.x)", "has(P.y)"],
        ],
        Scope::Item => [
            &["P.n", "P.k.size()"],
            &["P.k"],
            &["has(P.n)", "P.k != 'abc'"],
        ],
        Scope::List => [
            &["P.size()", "P.indexOf('a')"],
            &["P[0]", "P.join('+')"],
            &["P.all(x, x != 'abc')", "'a' in P", "P.isSorted()"],
        ],
    }
}

/// Of which an expression is about.
fn subject(d: &mut Dice, old: OldSelf) -> &'static str {
    match old {
        OldSelf::None => "self",
        OldSelf::There => d.pick(&["self", "oldSelf"]),
        OldSelf::Optional => d.pick(&["self", "self", "oldSelf.value()"]),
    }
}

fn filled(d: &mut Dice, form: Form, scope: Scope, old: OldSelf, depth: u32) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let subject = subject(d, old);
    // A letter that stands alone is to be replaced.
    let flush = |word: &mut String, out: &mut String, d: &mut Dice| {
        match word.as_str() {
            "P" => out.push_str(subject),
            "I" => out.push_str(&int(d, scope, old, depth.saturating_sub(1))),
            "S" => out.push_str(&text(d, scope, old, depth.saturating_sub(1))),
            "B" => out.push_str(&boolean(d, scope, old, depth.saturating_sub(1))),
            other => out.push_str(other),
        }
        word.clear();
    };
    for c in form.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            flush(&mut word, &mut out, d);
            out.push(c);
        }
    }
    flush(&mut word, &mut out, d);
    out
}

/// A whole number.
pub fn int(d: &mut Dice, scope: Scope, old: OldSelf, depth: u32) -> String {
    const LARGER: &[Form] = &[
        "(I + I)",
        "(I - I)",
        "(I * I)",
        "(I / I)",
        "(I % I)",
        "(B ? I : I)",
        "(-I)",
    ];
    const LITERALS: &[Form] = &["0", "1", "3", "7"];
    let forms = match d.roll(4) {
        0 => LITERALS,
        1 if depth > 0 => LARGER,
        _ => own(scope)[0],
    };
    let form = d.pick(forms);
    filled(d, form, scope, old, depth)
}

/// A text.
pub fn text(d: &mut Dice, scope: Scope, old: OldSelf, depth: u32) -> String {
    const LARGER: &[Form] = &["(S + S)", "(B ? S : S)", "('is ' + S)"];
    const LITERALS: &[Form] = &["'abc'", "'a'", "'x'", "\"it's\""];
    let forms = match d.roll(5) {
        0 => LITERALS,
        1 | 2 if depth > 0 => LARGER,
        _ => own(scope)[1],
    };
    let form = d.pick(forms);
    filled(d, form, scope, old, depth)
}

/// A verdict.
pub fn boolean(d: &mut Dice, scope: Scope, old: OldSelf, depth: u32) -> String {
    const LARGER: &[Form] = &[
        "B && B",
        "B || B",
        "!(B)",
        "(B ? B : B)",
        "(B) == (B)",
        "B && (B || B)",
    ];
    const COMPARED: &[Form] = &[
        "I < I",
        "I == I",
        "I >= I",
        "I != I",
        "S == S",
        "S != S",
        "S < S",
        "S.startsWith(S)",
        "S.contains('b')",
        "S.endsWith(S)",
        "S.size() > I",
        "I in [1, 3]",
    ];
    const OLD: &[Form] = &["self == oldSelf", "self != oldSelf"];
    const OPTIONAL: &[Form] = &[
        "oldSelf.hasValue()",
        "!oldSelf.hasValue()",
        "oldSelf.orValue(self) == self",
        "(!oldSelf.hasValue() || B)",
        "oldSelf.optMap(o, o == self).orValue(true)",
    ];
    let forms = match d.roll(6) {
        0 if old == OldSelf::There => OLD,
        0 | 1 if old == OldSelf::Optional => OPTIONAL,
        0..=2 if depth > 0 => LARGER,
        3 => COMPARED,
        4 if depth == 0 => COMPARED,
        _ => own(scope)[2],
    };
    let form = d.pick(forms);
    filled(d, form, scope, old, depth)
}
