package client

import (
	"errors"
)

// inParts makes a request about any number of handles: as many as the service takes in one, one after the other. Handles that
// were refused are put together; anything else that goes wrong ends it, and the rest is not tried.
func (q *Queue) inParts(handles []string, request func(some []string) error) error {
	var refused *BatchError
	for rest := handles; ; {
		some := rest[:min(len(rest), q.c.carrier.most())]
		err := request(some)
		if len(some) > MaxBatch && tooManyAtOnce(err) {
			q.c.carrier.fewer()
			continue
		}
		switch batch := batchOf(err, some); {
		case err == nil:
		case len(some) == len(handles):
			return err
		case batch == nil && refused == nil:
			return err
		case batch == nil:
			return errors.Join(refused, err)
		case refused == nil:
			refused = batch
		default:
			refused.Failed = append(refused.Failed, batch.Failed...)
		}
		if rest = rest[len(some):]; len(rest) > 0 {
			continue
		}
		if refused == nil {
			return nil
		}
		return refused
	}
}

// batchOf is the error as one about single handles; nil if it is none.
func batchOf(err error, handles []string) *BatchError {
	var batch *BatchError
	var one *Error
	switch {
	case errors.As(err, &batch):
		return batch
	case len(handles) == 1 && errors.As(err, &one) && errors.Is(one, ErrHandleInvalid):
		return &BatchError{Refusal: one, Failed: []HandleError{{Handle: handles[0], Err: one}}}
	}
	return nil
}

// tooManyAtOnce reports whether the request was refused because it was about more than the service takes at once: other
// services than cmq may take no more than MaxBatch over TCP either.
func tooManyAtOnce(err error) bool {
	const batchSize, outOfRange = 10370, 10350
	var refused *Error
	var batch *BatchError
	return !errors.As(err, &batch) && errors.As(err, &refused) && (refused.Module == batchSize || refused.Module == outOfRange)
}
