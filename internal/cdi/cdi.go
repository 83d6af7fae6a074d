// Package cdi edits runtime specs for devices of the Container Device
// Interface, through the field's library. Its parsers take time to initialise:
// only the full program imports it.
package cdi

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/cove-engine/cove"
)

// Inject makes the edits that specifications in dirs, of which later ones count
// more, ask for devices by their qualified names.
func Inject(s *specs.Spec, dirs, devices []string) error {
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return cove.E("read CDI specifications", "", cove.Invalid, err)
	}
	missing, err := cache.InjectDevices(s, devices...)
	if err == nil {
		return nil
	}
	if len(missing) > 0 {
		// Perhaps it is there, in a file that cannot be read as one.
		for _, why := range cache.GetErrors() {
			err = fmt.Errorf("%w: %w", err, errors.Join(why...))
		}
	}
	return cove.E("", "", cove.Invalid, fmt.Errorf("setting up CDI devices: %w", err))
}
