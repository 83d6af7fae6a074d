// Package cdi edits runtime specs for devices of the Container Device
// Interface, through the field's library. Its parsers take time to initialise:
// only the full program imports it.
package cdi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/cove-engine/cove"
)

// Inject makes the edits that specifications in dirs, of which later ones count
// more, ask for devices by their qualified names.
func Inject(s *specs.Spec, dirs, devices []string) (err error) {
	defer func() {
		// The library does not survive every file: a kind "a/b" will do.
		if r := recover(); r != nil {
			err = cove.E("read CDI specifications", strings.Join(dirs, ", "), cove.Invalid, fmt.Errorf("one cannot be read by the library for it: %v", r))
		}
	}()
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
	// Parsers take several lines.
	return cove.E("", "", cove.Invalid, errors.New("setting up CDI devices: "+strings.Join(strings.Fields(err.Error()), " ")))
}
