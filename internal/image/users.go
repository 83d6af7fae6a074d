package image

// Users tells which containers of cove's use an image: it takes the full ID
// and gives the containers' names or IDs as messages should show them. nil
// means that none do.
type Users func(imageID string) []string

func (u Users) of(imageID string) []string {
	if u == nil {
		return nil
	}
	return u(imageID)
}
