-- What a golden query's answer says, and questions that the documents do not answer: abstaining is right there.

alter table ragworks.golden_query add column answer text;
alter table ragworks.golden_query add column answerable boolean not null default true;
comment on column ragworks.golden_query.answer is 'in words, as short as a right answer can be';
comment on column ragworks.golden_query.answerable is 'false: no document answers it, and it has no span';
