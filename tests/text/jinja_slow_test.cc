// SPDX-License-Identifier: Apache-2.0
// Templates that would run for ever or fill the memory: each ends within seconds, with an error.
#include <gtest/gtest.h>

#include "moesmith/error.h"
#include "text/jinja/jinja.h"

namespace moesmith::text::jinja {
namespace {

TEST(jinja_bounds, end_templates_that_work_without_end) {
  for (const char* source :
       {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(99) %}"
        "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set s = 'x' * 99999999 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
        "{% set s = 'x' * 99999999 %}{% for i in range(99999) %}{{ s.find('y') }}{% endfor %}",
        "{{ ('a' * 99999999).replace('a', 'a' * 99999999) }}",
        "{{ (['a' * 9999999] * 99999) | join }}",
        "{% set l = [0] * 999999 %}{% for i in range(99999) %}{{ l == l[:] }}{% endfor %}",
        "{% for i in range(99999) %}{{ range(99999) | sort | length }}{% endfor %}"}) {
    try {
      Template::parse(source, "t").render({});
      ADD_FAILURE() << "rendered: " << source;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << source << ": " << error.what();
    }
  }
}

}  // namespace
}  // namespace moesmith::text::jinja
