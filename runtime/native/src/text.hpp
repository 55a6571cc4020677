// Texts of errors: how they stay short, and what of a bundle may stand in them. Twin of `listed` in runtime/errors.py
// and of str.isprintable.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace mlic {

// The beginning of a text in UTF-8, `most` bytes or the few less that leave its last character whole.
std::string shortened(const std::string &text, size_t most);

// Problems of one kind as one text: the first 20, and how many more there are.
std::string listed(const std::vector<std::string> &problems, const char *separator = "; ");

// Number of characters of a valid text in UTF-8.
size_t characters_in(const std::string &text);

// Whether a text in UTF-8 holds nothing that changes lines, the direction of writing or the state of a terminal, and no
// other blanks than spaces. Characters that Unicode has not assigned pass; Python refuses those that it does not know.
bool is_printable(const std::string &text);

}  // namespace mlic
