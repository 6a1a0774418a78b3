//! Formulas that hurt evalexpr 11.3.1 without a guard, at the size at which they do.
//!
//! For tests and benches: each must give a value or a clear error, soon.

/// Name and formula of every known case.
pub fn cases() -> Vec<(&'static str, String)> {
    let digits =
        |from: usize, count: usize| (from..from + count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    vec![
        ("parentheses_10k", nested("(", "1", ")", 10_000)),
        ("parentheses_200k", nested("(", "1", ")", 200_000)),
        ("parentheses_then_garbage_200k", format!("{} 1", nested("(", "1", ")", 200_000))),
        ("parentheses_open_200k", "(".repeat(200_000)),
        ("parentheses_closed_200k", ")".repeat(200_000)),
        ("parentheses_half_closed", format!("{}1{}", "(".repeat(2_000), ")".repeat(1_000))),
        ("sum_100k", format!("1{}", "+1".repeat(100_000))),
        ("power_100k", format!("1{}", "^1".repeat(100_000))),
        ("negative_power_50k", format!("1{}", "^-1".repeat(50_000))),
        ("product_of_negatives_50k", format!("1{}", "*-1".repeat(50_000))),
        ("minus_16k", format!("{}1", "-".repeat(16_000))),
        ("not_16k", format!("{}true", "!".repeat(16_000))),
        ("floor_juxtaposed_16k", format!("{}1", "floor ".repeat(16_000))),
        ("floor_called_50k", nested("floor(", "1", ")", 50_000)),
        ("assignments_8k", format!("{}1", "a=".repeat(8_000))),
        ("tuple_1m", format!("1{}", ",1".repeat(1_000_000))),
        ("chain_500k", format!("1{}", ";1".repeat(500_000))),
        ("min_of_500k", format!("min(1{})", ",1".repeat(500_000))),
        ("if_nested_20k", nested("if(true,", "1", ",0)", 20_000)),
        ("string_doubled_by_assign_add", format!("a=\"{}\"{}", "x".repeat(10), ";a+=a".repeat(26))),
        ("string_doubled_by_add", format!("a=\"xxxxxxxxxxxxxxxx\"{};len(a)", ";a=a+a".repeat(60))),
        ("string_doubled_by_if", format!("a=\"xxxxxxxxxxxxxxxx\"{};len(a)", ";a=if(true,a+a,a)".repeat(60))),
        ("string_doubled_by_from", format!("a=(1,1){};len(a)", ";a=(str::from(a),str::from(a))".repeat(60))),
        ("string_added_in_a_row", format!("a=\"{}\";len({}a)", "x".repeat(4_000), "a+".repeat(900))),
        ("tuple_doubled", format!("a=(1,1){};len(a)", ";a=(a,a)".repeat(60))),
        ("tuple_widened", format!("a=(1,1){};len(a)", ";a=(a,a,a,a,a,a,a,a)".repeat(60))),
        ("tuple_deepened", format!("a=(1,1){};a", ";a=(a,1)".repeat(200))),
        ("tuple_of_large_strings", format!("a=\"{}\";{}a", "x".repeat(4_000), "a,".repeat(900))),
        ("tuples_copied_through_parentheses", {
            let large = format!("a=\"{}\";", "x".repeat(4_000));
            format!("{large}{}a{}", "(1,".repeat(99), ")".repeat(99))
        }),
        ("contains_any_10k", format!("contains_any(({}),({}))", digits(0, 10_000), digits(10_000, 10_000))),
        ("contains_any_at_token_limit", format!("contains_any(({}),({}))", digits(0, 490), digits(490, 490))),
        ("contains_any_of_strings", {
            let grow = ";a+=a".repeat(5);
            let many = "a,".repeat(400);
            format!("a=\"{}\"{grow};contains_any(({many}0),({many}0))", "x".repeat(1_000))
        }),
        ("substring_inside_a_character", "str::substring(\"é\",1)".into()),
        ("substring_ends_inside_a_character", "str::substring(\"é\",0,1)".into()),
        ("substring_reversed", "str::substring(\"abc\",2,1)".into()),
        ("substring_beyond_the_end", "str::substring(\"abc\",0,9223372036854775807)".into()),
        ("substring_negative", "str::substring(\"abc\",-1)".into()),
        ("shl_64", "shl(1,64)".into()),
        ("shl_negative", "shl(1,-1)".into()),
        ("shr_64", "shr(1,64)".into()),
        ("shr_least_int", "shr(1,-9223372036854775807-1)".into()),
        ("abs_of_least_int", "math::abs(-9223372036854775807-1)".into()),
        ("negated_least_int", "-(-9223372036854775807-1)".into()),
        ("least_int_by_minus_one", "(-9223372036854775807-1)/-1".into()),
        ("least_int_remainder_minus_one", "(-9223372036854775807-1)%-1".into()),
        ("division_by_zero", "1/0".into()),
        ("remainder_by_zero", "1%0".into()),
        ("overflow", "9223372036854775807+1".into()),
        ("uppercase_triples", format!("str::to_uppercase(\"{}\")", "ΐ".repeat(3_500))),
        ("uppercase_triples_over_and_over", {
            let grow = ";a+=a".repeat(3);
            format!("a=\"{}\"{grow};str::to_uppercase(a)", "ΐ".repeat(1_900))
        }),
        ("long_digits_of_a_float", format!("str::from(({}1e308))", "1e308,".repeat(900))),
        ("string_1m", format!("\"{}\"", "x".repeat(1_000_000))),
        ("name_1m", "x".repeat(1_000_000)),
        ("digits_1m", "1".repeat(1_000_000)),
        ("fraction_1m", format!("0.{}", "1".repeat(1_000_000))),
        ("comments_100k", format!("1{}", "/**/".repeat(100_000))),
        ("comment_open", "1 /* ".into()),
        ("quote_open", "\"abc".into()),
        ("escape_at_end", "\"abc\\".into()),
        ("plus_2k", "+".repeat(2_000)),
        ("assigned_computed_name", "\"x\" + a = 3; xa".into()),
        ("assigned_value_as_name", "a = \"b\"; (a) = 3; b".into()),
        ("control_characters", "\u{1}\u{2}\u{7}(1)".into()),
        ("names_1k", (0..1_000).map(|number| format!("v{number}")).collect::<Vec<_>>().join("+")),
        ("tuple_then_semicolon", "1,2;3".into()),
        ("unicode_spaces", "1\u{2003}+\u{a0}1".into()),
        ("separators_only", ";".repeat(1_900)),
        ("commas_only", ",".repeat(1_900)),
    ]
}

/// `open` n times, the middle, `close` n times.
fn nested(open: &str, middle: &str, close: &str, levels: usize) -> String {
    format!("{}{middle}{}", open.repeat(levels), close.repeat(levels))
}
