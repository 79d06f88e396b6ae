//! CEL: an expression and the object that it looks at.

use celenv::admission::{Activation, Compiler, Inputs, Options, Run};
use celenv::limits;
use serde_json::json;

use super::{POD, joined, parts, text, value};
use crate::{Memory, Target};

pub const CEL: Target = Target {
    name: "cel",
    run: |data| {
        let [source, object] = parts(data);
        let compiled = Compiler::new(Options {
            params: true,
            authorizer: false,
            patch_types: true,
        })
        .compile(&text(source), &[]);
        let Ok(_) = &compiled.program else { return };
        let object = value(object, POD);
        let request = json!({"operation": "CREATE", "name": "x", "userInfo": {"username": "u", "groups": ["a"]}});
        let activation = Activation::new(&Inputs {
            object: Some(&object),
            old_object: Some(&object),
            namespace: None,
            request: &request,
            subject: None,
        });
        let mut run = Run::new(&activation, &[], limits::RUNTIME_COST_BUDGET);
        if let Ok(result) = run.evaluate(&compiled) {
            let _ = celenv::schema::to_json(&result);
            let _ = celenv::admission::message(&result);
        }
    },
    seeds: || {
        let all = [
            "object.spec.containers.all(c, c.image.startsWith('nginx') && has(c.ports)) ? 'a' : \"b\\u00e9\"",
            "[1, 2u, 3.5, b'x', null, {'a': timestamp('2026-01-01T00:00:00Z')}].map(x, type(x) == int, [x]).exists_one(y, y == [1])",
            "duration('1h2m') > duration('3s') || '[a-z]+'.matches('x') || quantity('1Gi').isGreaterThan(quantity('5'))",
            "'%s %d %.2f %x'.format(['a', 1, 2.5, 255]) + url('https://a.b:80/c?d=e').getHost() + ip('::1').family() + ''",
            "object.?metadata.?labels['app'].orValue('x').split('').join('-').replace('e', '', 2).substring(1, 3).upperAscii()",
            "[3, 1, 2].sort().sum() + lists.range(5).slice(1, 3).max() + math.greatest(1, 2, 3) + int('0x')",
            "JSONPatch{op: 'add', path: '/a', value: Object{spec: Object.spec{replicas: 1}}}",
            "optional.of(1).optMap(x, x + 1).hasValue() && sets.contains([1, 2], [1]) && 9223372036854775807 + 1 > 0",
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && format.dns1123Label().validate('a').hasValue() && semver('1.2.3').major() == 1",
            "'abc'.find('b*') + 'x'.findAll('x').join() + base64.encode(b'abc') + string(base64.decode('YWJj')) + 'a'.reverse()",
            "object.transformMap(k, v, k + 'x').transformList(k, v, v).size() % 0 == -9223372036854775808 / -1",
        ];
        // As long as chains may be: parsed, checked, evaluated and dropped on the stack of a worker thread.
        let chains = [
            "1+",
            "!",
            "-",
            "object.a.",
            "true?1:",
            "a[0]",
            "true&&",
            "1==1||",
            "[1].map(x,",
            "'a'+",
        ];
        let chains = chains.map(|c| {
            c.repeat(
                (limits::EXPRESSION_CHAIN_MAX - 1)
                    / c.bytes().filter(u8::is_ascii_punctuation).count().max(1),
            ) + "1"
        });
        let mut all: Vec<Vec<u8>> = all.iter().map(|s| s.as_bytes().to_vec()).collect();
        all.extend(chains.map(String::into_bytes));
        all.push(joined(&[
            "object.a.map(x, object.a.map(y, object.a.map(z, x + y + z)))",
            r#"{"a":["aaaaaaaa","bbbbbbbb","cccccccc"]}"#,
        ]));
        all
    },
    input_max: 512 << 10,
    memory: Memory {
        // What a call's cost limit lets it make.
        base: 256 << 20,
        per_byte: 4096,
    },
};
