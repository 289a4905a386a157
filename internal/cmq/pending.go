package cmq

// Pending is a request that was started and whose answer comes later, through a function given with it. That function
// is called exactly once, on any goroutine and possibly before the start returns; it must not block.
type Pending interface {
	// Cancel says that nobody waits for the answer any more. If it has not come, it is context.Canceled and comes
	// before Cancel returns, or at the same time from elsewhere. What the request does may be done all the same, but
	// messages that it locks for nobody are released. Cancel may be called at any time and more than once.
	Cancel()
}

// Answered is a Pending whose answer came before the start returned.
type Answered struct{}

// Cancel does nothing.
func (Answered) Cancel() {}
