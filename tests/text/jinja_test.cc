// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/jinja.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::text::jinja {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

Variables variables_of(const io::Json& object) {
  Variables variables;
  for (std::size_t i = 0; i < object.as_object().size(); ++i) {
    variables.emplace_back(object.as_object().key(i),
                           Value::from_json(object.as_object().value(i)));
  }
  return variables;
}

std::string render(std::string_view source, const Variables& variables = {}) {
  return Template::parse(source, "t.jinja").render(variables);
}

struct Refused {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

Refused refused(std::string_view source, const Variables& variables = {}) {
  try {
    return {ErrorCode::kInternal, "rendered: " + render(source, variables).substr(0, 200)};
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
}

TEST(jinja, equals_python_on_every_case) {
  const std::string folder = std::string(MOESMITH_TEST_DATA) + "/jinja/";
  const io::JsonFile file = io::read_json(folder + "variables.json");
  const Variables variables = variables_of(file.value);
  std::ifstream cases(folder + "cases.jsonl");
  int num_cases = 0;
  for (std::string line; std::getline(cases, line); ++num_cases) {
    const io::Json test = io::Json::parse(line, "cases.jsonl");
    const std::string& source = test.find("template")->as_string();
    if (const io::Json* text = test.find("text")) {
      std::string got;
      EXPECT_NO_THROW(got = render(source, variables)) << source;
      EXPECT_EQ(got, text->as_string()) << source;
    } else {
      EXPECT_THROW(render(source, variables), Error) << source;
    }
  }
  EXPECT_GT(num_cases, 150);
}

TEST(jinja, names_line_and_construct_of_an_error) {
  EXPECT_EQ(refused("a\n\n{{ x.y }}").message, "t.jinja:3: 'x' is undefined");
  EXPECT_EQ(refused("a\n{% for m in [1] %}\n{{ m.a.b }}{% endfor %}").message,
            "t.jinja:3: 'int object' has no attribute 'a'");
  EXPECT_EQ(refused("\n{{ raise_exception('no ' ~ 'tools') }}").message,
            "t.jinja:2: the template refuses: no tools");
  EXPECT_EQ(refused("\n{{ x | nosuch }}").message, "t.jinja:2: no filter named 'nosuch'");
  EXPECT_EQ(refused("{{ x is\nnosuch }}").message, "t.jinja:1: no test named 'nosuch'");
  EXPECT_THAT(refused("{% if x %}\na").message,
              AllOf(StartsWith("t.jinja:2: "), HasSubstr("'if' of line 1")));
  EXPECT_THAT(refused("{{ 'a' + 1 }}").message, HasSubstr("can only concatenate str"));
  EXPECT_EQ(refused("\n{% nosuch %}").message, "t.jinja:2: no tag named 'nosuch' here");
}

TEST(jinja, names_what_is_not_built) {
  for (const char* source :
       {"{% include 'a' %}", "{% extends 'a' %}", "{% block a %}{% endblock %}",
        "{% import 'a' as b %}", "{% autoescape true %}{% endautoescape %}", "{% do x %}",
        "{{ x | groupby('a') }}", "{{ x | pprint }}", "{{ 'a'.encode() }}", "{{ [].pop() }}",
        "{{ 2 ** 64 }}", "{{ 9223372036854775808 }}", "{{ (-8) ** 0.5 }}", "{{ range }}"}) {
    const Refused error = refused(source);
    EXPECT_EQ(error.code, ErrorCode::kUnsupported) << source << ": " << error.message;
    EXPECT_THAT(error.message, StartsWith("t.jinja:1: ")) << source;
  }
  EXPECT_EQ(refused("\n{% include 'a' %}").message, "t.jinja:2: this tag is not built: 'include'");
  EXPECT_EQ(refused("{{ x | groupby('a') }}").message,
            "t.jinja:1: this filter is not built: 'groupby'");
}

TEST(jinja, keeps_the_sandbox_shut) {
  EXPECT_THAT(refused("{{ ''.__class__.mro() }}").message, HasSubstr("__class__"));
  EXPECT_THAT(refused("{{ [].append(1) }}").message, HasSubstr("unsafe"));
  EXPECT_THAT(refused("{{ {}.update({}) }}").message, HasSubstr("unsafe"));
  EXPECT_THAT(refused("{{ range(100001) }}").message, HasSubstr("Range too big"));
}

TEST(jinja, ends_hostile_templates_with_an_error) {
  const std::string deep_list = str("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}",
                                    "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}");
  const std::string parentheses = "{{ " + std::string(5000, '(') + "1" + std::string(5000, ')');
  std::string sum = "{{ 1", nots = "{{ ", ifs, conditions = "{{ 1", filters = "{{ x";
  for (int i = 0; i < 5000; ++i) {
    sum += " + 1";
    nots += "not ";
    ifs += "{% if 1 %}";
    conditions += " if 1 else 1";
    filters += "|list";
  }
  for (const std::string& source :
       {std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        std::string("{% macro m(x) %}{{ m(x=[m(x), m(x)]) }}{% endmacro %}{{ m(1) }}"),
        std::string("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
        std::string("{{ 'x' * 999999999999 }}"), std::string("{{ [0] * 999999999999 }}"),
        std::string("{{ 'a'.ljust(9999999999) }}"), std::string("{{ '%99999999d' % 1 }}"),
        std::string("{{ '{:99999999}'.format(1) }}"), std::string("{{ 'a'.zfill(99999999999) }}"),
        deep_list, parentheses + " }}",
        std::string("{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}"
                    "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
                    "{{ ns.a == ns.b }}"),
        sum + " }}", nots + "1 }}", ifs, conditions + " }}", filters + " }}"}) {
    const Refused error = refused(source);
    EXPECT_EQ(error.code, ErrorCode::kUnsupported)
        << source.substr(0, 80) << ": " << error.message.substr(0, 200);
  }
}

TEST(jinja, refuses_variables_that_nest_too_deep) {
  const io::Json deep = io::Json::parse(std::string(250, '[') + std::string(250, ']'), "deep");
  EXPECT_THROW(Value::from_json(deep), Error);
}

TEST(jinja, lets_go_of_values_that_hold_one_another) {
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.self = ns %}"
                   "{% macro m() %}{% endmacro %}{% set ns.m = m %}"
                   "{% for i in [1] %}{% set ns.loop = loop %}{% endfor %}{{ ns.loop.index }}"),
            "1");
}

TEST(jinja, refuses_bytes_that_are_no_text) {
  EXPECT_THAT(refused("a\xff{{ x }}").message, HasSubstr("UTF-8"));
  EXPECT_THAT(refused(std::string(5 << 20, 'a')).message, HasSubstr("bytes"));
}

TEST(jinja, ends_at_every_cut_of_a_template_without_harm) {
  const std::string source =
      "{%- macro m(a, b='x') -%}{{ a|default(b)|tojson(indent=2) }}{%- endmacro %}\n"
      "{% for m in messages[::-1] if m.role is string %}{# c #}{{ m['role'] ~ loop.index0 }}"
      "{% else %}{% raw %}{{ }}{% endraw %}{% endfor %}{% set ns = namespace(a=[1, (2,)]) %}"
      "{% set ns.a = {'k': -1.5e3 // 2} %}{{ m(1, b=2) if ns.a.k not in [1] else 'é\\n' }}";
  const Variables variables{{"messages", Value::list({Value::dict({{"role", "user"}})})}};
  ASSERT_NO_THROW(render(source, variables));
  for (std::size_t cut = 0; cut < source.size(); ++cut) {
    for (const std::string& part : {source.substr(0, cut), source.substr(cut)}) {
      try {
        render(part, variables);
      } catch (const Error&) {
        continue;  // an error is an answer; a crash is not
      }
    }
  }
}

TEST(jinja, renders_the_date_of_today) {
  const std::string year = render("{{ strftime_now('%Y') }}");
  EXPECT_EQ(year.size(), 4u);
  EXPECT_GE(year, "2024");
}

}  // namespace
}  // namespace moesmith::text::jinja
