package index

import (
	"slices"

	"github.com/cove-engine/cove/internal/image"
)

// Question is the key of what Resolve is asked: the name and all that could
// change the answer.
func Question(o image.Options, name, platform string) string {
	return Key(slices.Concat([]string{name, platform, o.GraphRoot, o.RunRoot, o.Driver, o.ImageStore,
		o.RegistriesConf, o.RegistriesConfDir}, o.DriverOptions)...)
}
