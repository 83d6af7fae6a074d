package cli

import (
	"fmt"
	"slices"
	"strings"
)

// splitFilters reads --filter KEY=VALUE flags (KEY!=VALUE is the key "KEY!").
func splitFilters(list []string) (map[string][]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := make(map[string][]string, len(list))
	for _, f := range list {
		k, v, ok := strings.Cut(f, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("invalid filter %q", f)
		}
		m[k] = append(m[k], v)
	}
	return m, nil
}

func contains(list []string, word string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
}
