package uplink

import "testing"

func TestSaid(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "it ended without a word",
		"Failed to send 46 bytes to syslog\n": "it ended without a word",
		"Failed to send 46 bytes to syslog\nNo  external\tinterface\n\nx": "No external interface; x",
	} {
		if got := said(text); got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}
