package engine

import (
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/segment"
)

// StoredMessage finds a message in the data of an entry, as store.Options want it.
func StoredMessage(entry segment.Payload, slot uint16) (store.Message, error) {
	st, err := command.ReadSlot(entry, slot)
	return store.Message{Origin: st.Origin, Time: st.Time, Body: st.Body}, err
}

// UsableEntry tells whether an entry that is not what was written can be applied all the same, as store.Options want it: everything but
// the bodies of messages is whole.
func UsableEntry(data []byte) bool {
	_, err := command.Parse(data)
	return err == nil
}
