# SPDX-License-Identifier: BSD-3-Clause

# Manual pages are written in POD.  A Makefile.am that has some includes
# this, and lists them in man_MANS if HAVE_POD2MAN.
SUFFIXES = .pod .1 .5

pod2man = $(POD2MAN) --utf8 --center=nbdkit-cbw --release=$(PACKAGE_VERSION)

.pod.1:
	$(AM_V_GEN)$(pod2man) --section=1 --name='$(*F)' $< >$@.tmp && mv $@.tmp $@
.pod.5:
	$(AM_V_GEN)$(pod2man) --section=5 --name='$(*F)' $< >$@.tmp && mv $@.tmp $@
