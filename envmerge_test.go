package cove_test

import (
	"slices"
	"testing"

	"github.com/cove-engine/cove"
)

// What values with variables become is podman 5.4.2's.
func TestEnvMerge(t *testing.T) {
	for merge, want := range map[string]string{
		"X=a${A}b":         "X=a1b",
		"X=$A$B":           "X=1two words",
		"X=$NONE/q":        "X=/q",
		"X=${NONE:-d$A}":   "X=d1",
		"X=${A:-d}":        "X=1",
		"X=${A:+d}":        "X=d",
		"X=${NONE:+d}":     "X=",
		"X='$A'\"$A\"\\$A": "X=$A1$A",
		"X=5$":             "X=5$",
		"A=${A}0":          "A=10",
	} {
		c := cove.Container{Spec: cove.ContainerSpec{EnvMerge: []string{merge}}}
		c.Image.Env = []string{"A=1", "B=two words"}
		env, err := c.Environment("", true)
		if err != nil || !slices.Contains(env, want) {
			t.Errorf("%s: %q, %v; want %s", merge, env, err, want)
		}
	}
	for _, merge := range []string{"X=${A", "X='a", `X="a`, "X=${A?b}", "X=${}", "X=${A:-b"} {
		c := cove.Container{Spec: cove.ContainerSpec{EnvMerge: []string{merge}}}
		if env, err := c.Environment("", true); !cove.Is(err, cove.Invalid) {
			t.Errorf("%s: %q, %v", merge, env, err)
		}
	}
}
