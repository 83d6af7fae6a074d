package engine

import (
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
)

// storage.conf's size and inodes would bound what a container writes: it is not
// made without.
func TestQuotaRefused(t *testing.T) {
	for option, refused := range map[string]bool{
		"size=1g": true, "overlay.size=1g": true, "overlay.inodes=1000": true, "overlay.size=0": false, "overlay.mountopt=nodev": false,
	} {
		d := &draft{e: &Engine{conf: &config.Config{DriverOptions: []string{option}}}, c: new(cove.Container)}
		err := d.supported()
		if cove.Is(err, cove.Unsupported) != refused || refused && !strings.Contains(err.Error(), strings.TrimPrefix(option, "overlay.")) {
			t.Errorf("%s: %v", option, err)
		}
	}
}
