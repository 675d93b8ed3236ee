-- Refused content: its refusal outlives the next try, and an earlier good version takes its place in a new generation.

alter table ragworks.rejection add column again boolean not null default false;
comment on column ragworks.rejection.again is 'it is to be tried again; how that ends is not known yet';
alter table ragworks.rejection add column earlier_hash uuid;
comment on column ragworks.rejection.earlier_hash is 'the earlier version that was to take its place, and was refused too';
