// SPDX-License-Identifier: Apache-2.0
// A reference to an object that can be called (a closure), for parameters that are only called: no
// copy, no memory. It must not outlive what it refers to.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace moesmith {

template <class Signature>
class FunctionRef;

template <class Result, class... Args>
class FunctionRef<Result(Args...)> {
 public:
  template <class Function>
  requires(!std::is_same_v<std::remove_cvref_t<Function>, FunctionRef> &&
           std::is_invocable_r_v<Result, Function&, Args...>)
      FunctionRef(Function&& function)  // as std::function: any callable argument becomes one
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(function)))),
        call_([](void* object, Args... args) -> Result {
          using Pointer = std::add_pointer_t<std::remove_reference_t<Function>>;
          return (*static_cast<Pointer>(object))(std::forward<Args>(args)...);
        }) {}

  Result operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  Result (*call_)(void*, Args...);
};

}  // namespace moesmith
